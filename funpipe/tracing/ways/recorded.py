"""Calls of modules as they are, on real values: what they take, what they return, and what else they do."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from funpipe._typing import TensorType
from funpipe.tracing.fake import contiguous
from funpipe.tracing.ways.opaque import arguments_of
from funpipe.tracing.ways.packed import Structure, pack
from funpipe.tracing.ways.replacing import Forward, replacing
from funpipe.tracing.ways.watch import NotOpaque, Watch

Signature = tuple[Structure, tuple[tuple[Any, ...], ...]]
"""What a call was given, but for the numbers in its tensors."""


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a module.

    Args:
        given: its tensors.
        arguments: the structure that they were taken out of.
        returned: the structure of what it returned.
        types: of the tensors that it returned, and then of the buffers that it wrote to; laid out in rows.
        written: those buffers.
        random: whether it drew random numbers from a generator of torch.
        problem: why it cannot be one operator; None if it can.
    """

    given: list[Tensor]
    arguments: Structure
    returned: Structure | None = None
    types: tuple[TensorType, ...] = ()
    written: tuple[str, ...] = ()
    random: bool = False
    problem: NotOpaque | None = None

    @property
    def signature(self) -> Signature:
        """What the call was given."""
        return signature(self.arguments, self.given)


def signature(arguments: Structure, given: Iterable[Tensor]) -> Signature:
    """What a call is given, but for the numbers: shapes and dtypes, and all that is no tensor."""
    return arguments, tuple((tuple(t.shape), t.dtype) for t in given)


def recorded(names: Mapping[nn.Module, str], run: Callable[[], object]) -> dict[nn.Module, list[Call]]:
    """Runs a function, and notes the calls of some modules.

    Args:
        names: of the modules, as errors call them.
        run: the function; on real values.
    """
    found: dict[nn.Module, list[Call]] = {module: [] for module in names}
    recorders = {m: _Recorder(m, m.forward, name, found[m]) for m, name in names.items()}
    with replacing(recorders):
        run()
    return found


@dataclass(frozen=True, eq=False)
class _Recorder:
    module: nn.Module
    forward: Forward
    name: str
    calls: list[Call]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            given, arguments = arguments_of(args, kwargs)
        except ValueError as error:
            self.calls.append(Call([], pack(None)[1], problem=self._problem(f"an argument of {error}")))
            return self.forward(*args, **kwargs)
        watch = Watch(self.module, self.name, given, copies=True)
        out = self.forward(*args, **kwargs)
        self.calls.append(self._call([t.detach() for t in given], arguments, out, watch))
        return out

    def _call(self, given: list[Tensor], arguments: Structure, out: Any, watch: Watch) -> Call:
        try:
            written = watch.written()
            tensors, returned = pack(out)
        except NotOpaque as problem:
            return Call(given, arguments, problem=problem)
        except ValueError as error:
            return Call(given, arguments, problem=self._problem(f"a result of {error}"))
        tensors += written.values()
        types = tuple(contiguous(TensorType.of(t)) for t in tensors)
        problem = self._untraceable(tensors, given)
        return Call(given, arguments, returned, types, tuple(written), watch.drew(), problem)

    def _untraceable(self, results: list[Tensor], given: list[Tensor]) -> NotOpaque | None:
        """Why the results cannot be those of an operator."""
        read = [*given, *self.module.parameters(), *self.module.buffers()]
        if not read:
            return self._problem("takes no tensor")
        if any(t.is_sparse or t.is_nested or t.is_quantized for t in (*results, *read)):
            return self._problem("takes or returns a tensor that is sparse, nested or quantized")
        if any(t.device != read[0].device for t in results):
            return self._problem("returns tensors on another device than those that it takes")
        return None

    def _problem(self, what: str) -> NotOpaque:
        return NotOpaque(
            f"the module {self.name} is not traced but called, and {what}: give and return dense tensors and numbers "
            "in lists, tuples, dicts or dataclasses.",
            self.module,
        )
