"""The type of every value that a program names."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from funpipe._typing import TensorType
from funpipe.programs.execute import reduced
from funpipe.programs.layout import Layout
from funpipe.stages.stage import Stage
from funpipe.tracing.fake import contiguous
from funpipe.tracing.traced import Traced


def value_types(
    traced: Traced,
    stages: Sequence[Stage],
    made: Layout,
    num_microbatches: int,
    batch_dims: dict[str, int | None],
) -> dict[str, TensorType]:
    """The types of leaves, values of microbatches, accumulators, gradients and results.

    Args:
        traced: the joint graph.
        stages: its partition.
        made: where the parameters live.
        num_microbatches: of one replica.
        batch_dims: the dimension along which each batch leaf is split.
    """
    numbers = [f"@{i}" for i in range(num_microbatches)]
    device = next((t.device for part in (traced.params, traced.batch) for t in part.values()), "cpu")
    types = {f"param.{n}": t for n, t in traced.params.items()} | {f"leaf.{n}": t for n, t in traced.params.items()}
    types |= {f"tied.{n}": t for n, t in traced.params.items()}
    types |= {f"buffer.{n}": t for n, t in traced.buffers.items()}
    types |= {f"const.{n}": replace(TensorType.of(t), device=device) for n, t in traced.consts.items()}
    for name, kind in traced.batch.items():
        types[f"batch.{name}"] = whole_batch(kind, batch_dims[name], num_microbatches)
        types |= {f"batch.{name}{number}": kind for number in numbers}
    for region in (r for s in stages for r in s.regions):
        for value in region.outputs:
            types |= dict.fromkeys([value + number for number in numbers], region.types[value])
    for name, terms in traced.gradients.items():
        types |= {f"acc.{name}.{k}": traced.params[name] for k in range(len(terms))}
    for bucket in made.buckets:
        types |= {f"{kind}.{bucket.name}": bucket.type(device) for kind in ("bucket", "grad")}
    types["step"] = TensorType((), (), torch.int64, "cpu")
    types["weight"] = TensorType((), (), torch.float64, device)
    norm = torch.float64 if any(t.dtype == torch.float64 for t in traced.params.values()) else torch.float32
    types["squares"] = TensorType((len(traced.gradients),), (1,), norm, device)
    return types | _results(traced, num_microbatches)


def whole_batch(kind: TensorType, dim: int | None, count: int) -> TensorType:
    """The type of a batch leaf from that of one microbatch."""
    if dim is None:
        return kind
    shape = (*kind.shape[:dim], kind.shape[dim] * count, *kind.shape[dim + 1 :])
    return contiguous(replace(kind, shape=shape))


def _results(traced: Traced, count: int) -> dict[str, TensorType]:
    found = {}
    for name, node in traced.outputs.items():
        if not name.startswith("buffer."):
            found[f"result.{name}"] = _reduced(reducer_of(traced, name), TensorType.of(node.meta["val"]), count)
    return found


def reducer_of(traced: Traced, name: str) -> str:
    """How an output that is no buffer is combined over the microbatches, and over the replicas."""
    if name.startswith("aux."):
        return traced.reducers[name.removeprefix("aux.")]
    if name == "weight":
        return "weight"
    return "sum" if "weight" in traced.outputs else "mean"


def _reduced(reducer: str, kind: TensorType, count: int) -> TensorType:
    """The type that a reducer gives, found by running it without values."""
    values = [torch.empty(kind.shape, dtype=kind.dtype, device="meta") for _ in range(count)]
    return contiguous(replace(TensorType.of(reduced(reducer, values)), device=kind.device))
