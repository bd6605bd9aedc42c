"""The type of every value that a program names."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from funpipe._typing import TensorType
from funpipe.programs.layout import Layout
from funpipe.programs.outline import EACH, Outline
from funpipe.stages.stage import Stage
from funpipe.tracing.fake import contiguous


def value_types(
    outline: Outline,
    stages: Sequence[Stage],
    made: Layout,
    num_microbatches: int,
    batch_dims: dict[str, int | None],
) -> dict[str, TensorType]:
    """The types of leaves, values of microbatches, accumulators, gradients and results.

    Args:
        outline: the names and types at the edge of the model.
        stages: its partition.
        made: where the parameters live.
        num_microbatches: of one replica.
        batch_dims: the dimension along which each batch leaf is split.
    """
    numbers = [f"@{i}" for i in range(num_microbatches)]
    device = outline.device
    types = {f"{kind}.{n}": t for kind in ("param", "leaf", "tied") for n, t in outline.params.items()}
    types |= {f"buffer.{n}": t for n, t in outline.buffers.items()}
    types |= {f"const.{n}": t for n, t in outline.consts.items()}
    for name, kind in outline.batch.items():
        types[f"batch.{name}"] = whole_batch(kind, batch_dims[name], num_microbatches)
        types |= {f"batch.{name}{number}": kind for number in numbers}
    for region in (r for s in stages for r in s.regions):
        for value in region.outputs:
            types |= dict.fromkeys([value + number for number in numbers], region.types[value])
    for name, places in outline.places.items():
        types |= {f"acc.{name}.{k}": outline.params[name] for k in range(places)}
    for bucket in made.buckets:
        types |= {f"{kind}.{bucket.name}": bucket.type(device) for kind in ("bucket", "grad")}
    types["step"] = TensorType((), (), torch.int64, "cpu")
    types["weight"] = TensorType((), (), torch.float64, device)
    norm = torch.float64 if any(t.dtype == torch.float64 for t in outline.params.values()) else torch.float32
    types["squares"] = TensorType((len(outline.places),), (1,), norm, device)
    results = {n: found for n, found in outline.results.items() if found.reducer != EACH}
    return types | {f"result.{n}": found.of(num_microbatches) for n, found in results.items()}


def whole_batch(kind: TensorType, dim: int | None, count: int) -> TensorType:
    """The type of a batch leaf from that of one microbatch."""
    if dim is None:
        return kind
    shape = (*kind.shape[:dim], kind.shape[dim] * count, *kind.shape[dim + 1 :])
    return contiguous(replace(kind, shape=shape))
