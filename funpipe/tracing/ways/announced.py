"""The forward of an opaque module while a function is traced: one operator, with a backward that is one, too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from funpipe._errors import TraceError
from funpipe.functional.objects import note
from funpipe.tracing.ways.modes import Modes
from funpipe.tracing.ways.opaque import Opaque, arguments_of
from funpipe.tracing.ways.operators import CALL, CALL_BACKWARD, types_text
from funpipe.tracing.ways.packed import Structure
from funpipe.tracing.ways.recorded import Call, signature
from funpipe.tracing.ways.replacing import Forward
from funpipe.tracing.ways.watch import NotOpaque


@dataclass(frozen=True, eq=False)
class Announced:
    """Stands in for the forward of a module.

    Args:
        module: the module.
        forward: its own forward.
        name: it is called in errors.
        calls: how it was called on real values.
    """

    module: nn.Module
    forward: Forward
    name: str
    calls: Sequence[Call]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given, arguments = arguments_of(args, kwargs)
        call = self._like(arguments, given)
        leaves = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        leaves |= {n: leaves[n].clone() for n in call.written}  # the graph may write to the buffer later
        tensors = [*leaves.values(), *given]
        if call.random:  # drawn while the function is traced, so it is a function of the step's key
            tensors.append(torch.randint(2**31 - 1, (), dtype=torch.int64, device=tensors[0].device))
        assert call.returned is not None
        opaque = Opaque(
            *(self.name, self.module, self.forward, tuple(leaves)),
            *(arguments, call.returned, call.types, call.written),
            *(Modes.of(self.module, tensors[0].device.type), call.random, torch.is_grad_enabled()),
        )
        count = len(call.types) - len(call.written)
        results = called(note(f"opaque {self.name}", opaque), opaque, count, tensors)
        for name, value in zip(call.written, results[count:], strict=True):
            _set(self.module, name, value)
        return call.returned.rebuilt(results[:count])

    def _like(self, arguments: Structure, given: Sequence[Tensor]) -> Call:
        """The call on real values with these arguments."""
        wanted = signature(arguments, given)
        found = [call for call in self.calls if call.signature == wanted]
        if not found:
            raise TraceError(
                f"the module {self.name} is not traced but called, and with other arguments while the function is "
                f"traced ({', '.join(map(str, wanted[1]))}) than on real values: pass it nothing that depends on "
                "values of tensors but tensors."
            )
        if any((c.types, c.returned) != (found[0].types, found[0].returned) for c in found):
            raise NotOpaque(
                f"the module {self.name} is not traced but called, and what it returns has shapes or numbers that "
                "depend on values: pad it to a fixed size.",
                self.module,
            )
        return found[0]


def called(name: str, opaque: Opaque, count: int, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The operator with its derivative.

    Args:
        name: of the opaque module among the objects of the graph.
        opaque: the module.
        count: how many of its results it returns; the others are buffers.
        tensors: that it takes.
    """
    differentiable = [i < count and t.dtype.is_floating_point for i, t in enumerate(opaque.types)]
    return _Called.apply(name, types_text(opaque.types), differentiable, *tensors)  # type: ignore[return-value]


class _Called(torch.autograd.Function):
    """The call; its backward calls the module again."""

    @staticmethod
    def forward(ctx: Any, name: str, gives: str, differentiable: list[bool], *tensors: Tensor) -> tuple[Tensor, ...]:
        results = CALL(list(tensors), name, gives)[: len(differentiable)]
        ctx.name, ctx.differentiable = name, differentiable
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(*(r for r, d in zip(results, differentiable, strict=True) if not d))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[3:]) if needed]
        given = [g for g, d in zip(grads, ctx.differentiable, strict=True) if d]
        found = iter(CALL_BACKWARD(given, list(ctx.saved_tensors), ctx.name, wanted))
        return (None, None, None, *(next(found) if needed else None for needed in ctx.needs_input_grad[3:]))


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    """A buffer's new value; whoever called the module with other buffers finds it in their place."""
    path, _, last = name.rpartition(".")
    setattr(module.get_submodule(path), last, value)
