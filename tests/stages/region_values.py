"""Runs the regions of stages for one microbatch, with no program around them."""

from torch import Tensor

from funpipe._typing import TensorType
from funpipe.stages import Region, Stage


def run_regions(stages: tuple[Stage, ...], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """All forwards, then all backwards from the last stage to the first; checks what a region promises.

    Args:
        stages: the stages.
        leaves: the tensor of each leaf, by its name as a region's input ("param.w").

    Returns:
        All values by name, the leaves included.
    """
    values = dict(leaves)
    for region in [s.F for s in stages] + [s.B for s in reversed(stages) if s.B is not None]:
        run_region(region, values)
    return values


def run_halves(stages: tuple[Stage, ...], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """All forwards, then of each stage from the last to the first I and, with nothing else of it left, W."""
    values = dict(leaves)
    halves = [r for s in reversed(stages) for r in (s.I, s.W) if r is not None]
    for region in [s.F for s in stages] + halves:
        run_region(region, values)
    return values


def run_region(region: Region, values: dict[str, Tensor]) -> None:
    """Runs one region and adds its outputs: of the types it names, in memory of their own."""
    inputs = [values[name] for name in region.inputs]
    outputs = region.module(*inputs)
    for name, tensor in [*zip(region.inputs, inputs, strict=True), *zip(region.outputs, outputs, strict=True)]:
        assert TensorType.of(tensor) == region.types[name], (region.name, name)
    made = [t.untyped_storage().data_ptr() for t in outputs if t.numel()]
    read = {t.untyped_storage().data_ptr() for t in inputs if t.numel()}
    assert len(made) == len(set(made)) and not read & set(made), region.name
    again = values.keys() & set(region.outputs)
    assert not again, (region.name, again)
    values.update(zip(region.outputs, outputs, strict=True))
