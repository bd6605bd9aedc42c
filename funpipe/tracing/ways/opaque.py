"""A module that is not traced but called: what its two operators run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from funpipe._errors import TraceError
from funpipe._typing import TensorType
from funpipe.tracing.fake import in_rows
from funpipe.tracing.random.functions import Functions
from funpipe.tracing.ways.modes import Modes
from funpipe.tracing.ways.packed import Structure, pack
from funpipe.tracing.ways.replacing import PREFIX, Body, Forward
from funpipe.tracing.ways.watch import Watch, same_bits


@dataclass(frozen=True)
class Opaque:
    """A call of a module that runs as it is, in Python. Calls that are alike are equal, and have one name in a graph.

    Its tensors are the parameters and buffers of `leaves`, in this order, those of its arguments, and a seed if it
    draws random numbers. Its results are the tensors that it returns, and then the new values of the buffers of
    `written`.

    Args:
        name: the module is called in errors.
        module: the module; held, not copied.
        forward: its forward.
        leaves: the names of its parameters and buffers.
        given: the structure of its arguments, `(args, kwargs)`.
        returned: the structure of what it returns.
        types: of its results.
        written: the buffers that it writes to.
        modes: in which it was traced: training or not, autocast.
        seeded: whether the last tensor is a seed for torch's generators.
        trains: False switches dropout off.
    """

    name: str
    module: nn.Module
    forward: Forward
    leaves: tuple[str, ...]
    given: Structure
    returned: Structure
    types: tuple[TensorType, ...]
    written: tuple[str, ...]
    modes: Modes
    seeded: bool = False
    trains: bool = True

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The results, none of which shares memory with a tensor given.

        Raises:
            TraceError: it did something else than when it was traced: other shapes, dtypes or numbers came back, it
                wrote to other tensors, or it drew random numbers.
        """
        with torch.no_grad():
            return _own(self._called(tensors), tensors)

    def run_backward(self, grads: Sequence[Tensor], tensors: Sequence[Tensor], wanted: Sequence[int]) -> list[Tensor]:
        """The gradients of some of the tensors: the module is called once more.

        Args:
            grads: of the floating-point tensors that it returns.
            tensors: as for `run`.
            wanted: the indices of the tensors whose gradients are returned; zeros for those that it does not use.
        """
        chosen = set(wanted)
        leaves = [t.detach().requires_grad_(i in chosen) for i, t in enumerate(tensors)]
        with torch.enable_grad():
            results = self._called(leaves)[: len(self.types) - len(self.written)]
        floating = [r for r in results if r.is_floating_point()]
        pairs = [(r, g) for r, g in zip(floating, grads, strict=True) if r.requires_grad]
        found = _gradients(pairs, [leaves[i] for i in wanted])
        return _own(found, tensors)

    def _called(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        count = len(self.leaves)
        state = dict(zip(self.leaves, tensors[:count], strict=True))
        state |= {n: state[n].clone() for n, _ in self.module.named_buffers() if n in state}
        args, kwargs = self.given.rebuilt(tensors[count:])
        with (
            self._seeded(tensors),
            self._watched(state, tensors) as written,
            self.modes.again(),
            Functions(self.trains),
        ):
            values = {PREFIX + n: t for n, t in state.items()}
            out = torch.func.functional_call(Body(self.module, self.forward), values, args, kwargs)
            written |= {n: t for n in state if (t := values[PREFIX + n]) is not state[n]}
        results, structure = pack(out)
        self._require(structure == self.returned, "returned other numbers, or another structure,")
        self._require(set(written) <= set(self.written), f"wrote to the buffers {', '.join(sorted(written))}")
        results += [written.get(n, state[n]) for n in self.written]
        for result, kind in zip(results, self.types, strict=True):
            same = (tuple(result.shape), result.dtype) == (kind.shape, kind.dtype)
            self._require(same, f"returned {TensorType.of(result)} instead of {kind}")
        return [in_rows(r) for r in results]

    @contextmanager
    def _watched(self, state: dict[str, Tensor], tensors: Sequence[Tensor]) -> Iterator[dict[str, Tensor]]:
        """While open, it may write to the buffers in `state` alone; gives the others that it wrote to."""
        written: dict[str, Tensor] = {}
        watch = Watch(self.module, self.name, tensors)
        yield written
        watch.written()
        self._require(self.seeded or not watch.drew(), "drew random numbers")
        before = dict(zip(self.leaves, tensors, strict=False))
        kept = {n: state[n] for n, _ in self.module.named_buffers() if n in state and n not in self.written}
        written |= {n: b for n, b in kept.items() if not same_bits(before[n], b)}

    @contextmanager
    def _seeded(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """While open, torch's generators begin with the seed; afterwards they are as they were."""
        if not self.seeded:
            yield
            return
        devices = [tensors[0].device] if tensors[0].device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(int(tensors[-1]))
            yield

    def _require(self, fits: bool, did: str) -> None:
        if not fits:
            raise TraceError(
                f"the module {self.name} is not traced but called, and {did} as it did not when the step was traced. "
                "What it returns must have one form for batches of one shape: pad it to a fixed size, or give the "
                "module that contains it another class whose result has one."
            )


def _gradients(pairs: Sequence[tuple[Tensor, Tensor]], leaves: Sequence[Tensor]) -> list[Tensor]:
    if not pairs or not leaves:
        return [torch.zeros_like(leaf) for leaf in leaves]
    outs, grads = zip(*pairs, strict=True)
    found = torch.autograd.grad(outs, leaves, grads, allow_unused=True, materialize_grads=True)
    return [in_rows(g) for g in found]


def _own(results: Sequence[Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """The results in memory of their own: an operator's schema says that they share none."""
    taken = {t.untyped_storage().data_ptr() for t in tensors}
    own = []
    for result in results:
        shares = result.untyped_storage().data_ptr() in taken
        own.append(result.detach().clone() if shares else result.detach())
        taken.add(own[-1].untyped_storage().data_ptr())
    return own


def arguments_of(args: Any, kwargs: Any) -> tuple[list[Tensor], Structure]:
    """The tensors among a module's arguments, and the rest."""
    return pack((tuple(args), dict(kwargs)), code=True)
