"""`Outline`: what programs are written from, apart from the stages: the names and types at the edge of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from funpipe._typing import TensorType
from funpipe.functional.precision import Precision
from funpipe.programs.execute import reduced
from funpipe.stages.piece import Piece
from funpipe.stages.stage import Stage
from funpipe.tracing.fake import contiguous
from funpipe.tracing.traced import Traced

_LEAVES = ("params", "buffers", "batch", "consts")

EACH = "each"
"""The reducer of a result that is returned for every microbatch by itself, as `NAME@i`."""


@dataclass(frozen=True)
class Result:
    """A result of the forward.

    Args:
        type: of one microbatch.
        reducer: how the values of all microbatches are combined; `"each"`: they are not.
    """

    type: TensorType
    reducer: str

    def of(self, count: int) -> TensorType:
        """The type of the combination of so many microbatches, found by running the reducer without values."""
        values = [torch.empty(self.type.shape, dtype=self.type.dtype, device="meta") for _ in range(count)]
        made = TensorType.of(reduced(self.reducer, values))
        return contiguous(replace(made, device=self.type.device))


@dataclass(frozen=True)
class Outline:
    """The names and types at the edge of a model; of a traced one, or put together from stages traced one by one.

    Args:
        params, buffers, batch, consts: the types of the leaves, by name; those of the batch are one microbatch's.
        places: for each leaf with a gradient how many values are summed to it.
        results: what the forward returns, buffers excepted.
        kept: the types of parameters as they are kept, where the forward reads others.
        precision: the policy that says so.
        keys: the names of what the model draws.
    """

    params: dict[str, TensorType]
    buffers: dict[str, TensorType]
    batch: dict[str, TensorType]
    consts: dict[str, TensorType] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    kept: dict[str, TensorType] = field(default_factory=dict)
    precision: Precision | None = None
    keys: tuple[str, ...] = ()

    @staticmethod
    def of(traced: Traced) -> "Outline":
        """That of a traced loss function.

        Args:
            traced: the joint graph of one microbatch.
        """
        device = _device(traced.params | traced.batch)
        results = {n: node for n, node in traced.outputs.items() if not n.startswith("buffer.")}
        return Outline(
            traced.params,
            traced.buffers,
            traced.batch,
            {n: replace(TensorType.of(t), device=device) for n, t in traced.consts.items()},
            {leaf: len(terms) for leaf, terms in traced.gradients.items()},
            {n: Result(TensorType.of(node.meta["val"]), _reducer(traced, n)) for n, node in results.items()},
            traced.kept,
            traced.precision,
            _keys(traced),
        )

    @staticmethod
    def of_pieces(pieces: Sequence[Piece], stages: Sequence[Stage]) -> "Outline":
        """That of stages which were traced one by one.

        Args:
            pieces: the stages by themselves.
            stages: the same, linked, with the results that are wanted; each microbatch's is returned by itself.
        """
        made = {v: r.types[v] for s in stages for r in s.regions for v in r.outputs}
        results = {n: v for s in stages for n, v in s.results.items() if not n.startswith("buffer.")}
        params, buffers, batch, consts = (_merged([getattr(p, part) for p in pieces]) for part in _LEAVES)
        return Outline(
            params,
            buffers,
            batch,
            consts,
            {leaf: len(places) for s in stages for leaf, places in s.terms.items()},
            {n: Result(made[v], EACH) for n, v in results.items()},
        )

    @property
    def masters(self) -> dict[str, TensorType]:
        """The types of parameters as they are kept and updated."""
        return self.kept or self.params

    @property
    def casts(self) -> dict[str, torch.dtype]:
        """The parameters that the forward reads in another dtype than they are kept in, and that dtype."""
        return {n: self.params[n].dtype for n, kind in self.masters.items() if self.params[n].dtype != kind.dtype}

    @property
    def device(self) -> str:
        """The type of the device that the model runs on."""
        return _device(self.params | self.batch)

    @property
    def weighted(self) -> bool:
        """Whether gradients are divided by the weight of the batch."""
        return "weight" in self.results


def _keys(traced: Traced) -> tuple[str, ...]:
    """What a model draws: the key of its microbatch, if it takes it, and all positions up to the last."""
    names = [name for kind, name in traced.leaves if kind == "random"]
    last = max((int(n) for n in names if n.isdigit()), default=-1)
    return (*(n for n in names if not n.isdigit()), *map(str, range(last + 1)))


def _merged(parts: Sequence[dict[str, TensorType]]) -> dict[str, TensorType]:
    return {name: kind for part in parts for name, kind in part.items()}


def _device(leaves: dict[str, TensorType]) -> str:
    return next((kind.device for kind in leaves.values()), "cpu")


def _reducer(traced: Traced, name: str) -> str:
    """How an output that is no buffer is combined over the microbatches, and over the replicas."""
    if name.startswith("aux."):
        return traced.reducers[name.removeprefix("aux.")]
    if name == "weight":
        return "weight"
    return "sum" if "weight" in traced.outputs else "mean"
