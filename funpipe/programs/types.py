"""The type of every value that a program names."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from funpipe._typing import TensorType
from funpipe.programs.keys import keys_type
from funpipe.programs.layout import Bucket, Layout, cast_name
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
    types = {f"param.{n}": t for n, t in outline.params.items()}
    types |= {f"{kind}.{n}": t for kind in ("leaf", "tied") for n, t in outline.masters.items()}
    types |= {f"master.{n}": outline.masters[n] for n in outline.casts}
    types |= {f"buffer.{n}": t for n, t in outline.buffers.items()}
    types |= {f"const.{n}": t for n, t in outline.consts.items()}
    for name, kind in outline.batch.items():
        types[f"batch.{name}"] = whole_batch(kind, batch_dims[name], num_microbatches)
        types |= {f"batch.{name}{number}": kind for number in numbers}
    for region in (r for s in stages for r in s.regions):
        for value in region.outputs:
            types |= dict.fromkeys([value + number for number in numbers], region.types[value])
    for name, places in outline.places.items():
        types |= {f"acc.{name}.{k}": _reduced(outline, outline.masters[name]) for k in range(places)}
    for bucket in made.buckets:
        kind = bucket.type(device)
        types |= {f"bucket.{bucket.name}": kind, f"grad.{bucket.name}": _reduced(outline, kind)}
        types |= _casts(bucket, made, device)
    types["step"] = TensorType((), (), torch.int64, "cpu")
    types["key"] = TensorType((), (), torch.int64, device)
    if outline.keys:
        types |= _keys(outline.keys, num_microbatches, device)
    types["weight"] = TensorType((), (), torch.float64, device)
    norm = torch.float64 if any(t.dtype == torch.float64 for t in outline.masters.values()) else torch.float32
    types["squares"] = TensorType((len(outline.places),), (1,), norm, device)
    types |= {f"kept.buffer.{n}": t for n, t in outline.buffers.items()} if _scaled(outline) else {}
    types |= _of_scale(device) if _scaled(outline) else {}
    results = {n: found for n, found in outline.results.items() if found.reducer != EACH}
    return types | {f"result.{n}": found.of(num_microbatches) for n, found in results.items()}


def _reduced(outline: Outline, kind: TensorType) -> TensorType:
    """The type in which gradients of something are added."""
    return replace(kind, dtype=outline.precision.reduced(kind.dtype)) if outline.precision else kind


def _casts(bucket: Bucket, made: Layout, device: str) -> dict[str, TensorType]:
    """A bucket in each dtype that regions read leaves of it in."""
    wanted = dict.fromkeys(made.casts[slot.leaf] for slot in bucket.slots if slot.leaf in made.casts)
    return {cast_name(dtype, bucket.name): replace(bucket.type(device), dtype=dtype) for dtype in wanted}


def _scaled(outline: Outline) -> bool:
    return outline.precision is not None and outline.precision.scale is not None


def _of_scale(device: str) -> dict[str, TensorType]:
    """The scale of the loss, its count of good steps, whether gradients overflowed, and what is reported of it."""
    number, count, flag = (TensorType((), (), dtype, device) for dtype in (torch.float32, torch.int64, torch.bool))
    named = {"scale.value": number, "scale.good": count, "overflow": number}
    return named | {"result.loss_scale": number, "result.skipped": flag}


def _keys(names: Sequence[str], count: int, device: str) -> dict[str, TensorType]:
    one = TensorType((), (), torch.int64, device)
    single = {f"random.{n}@{i}": one for n in names for i in range(count)}
    return {"keys": keys_type(count, names, device), "replica": one} | single


def whole_batch(kind: TensorType, dim: int | None, count: int) -> TensorType:
    """The type of a batch leaf from that of one microbatch."""
    if dim is None:
        return kind
    shape = (*kind.shape[:dim], kind.shape[dim] * count, *kind.shape[dim + 1 :])
    return contiguous(replace(kind, shape=shape))
