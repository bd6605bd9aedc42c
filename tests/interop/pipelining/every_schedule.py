"""What each of four ranks runs: every schedule, traced and by hand, and a schedule that was written and read."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from tests.interop.pipelining.training import Model, Run, batch, schedule_of, stages_of, step

RANKS, MICROBATCHES = 4, 8
RUNS = {
    f"{schedule}, {'traced' if traced else 'by hand'}": Run(schedule, per_rank, traced, style)
    for schedule, per_rank, style in (
        ("ScheduleGPipe", 1, "loop"),
        ("Schedule1F1B", 1, "loop"),
        ("ScheduleInterleaved1F1B", 2, "loop"),
        ("ScheduleLoopedBFS", 2, "loop"),
        ("ScheduleInterleavedZeroBubble", 2, "loop"),
        ("ScheduleZBVZeroBubble", 2, "v"),
        ("ScheduleDualPipeV", 2, "v"),
    )
    for traced in (False, True)
}
SEVERAL = tuple(name for name, run in RUNS.items() if run.stages_per_rank > 1 and not run.traced)
IN_GROUPS = ("Schedule1F1B, by hand", "ScheduleInterleavedZeroBubble, traced")
FORMATS = ("compute_only", "compute_comms")
NAMES = (*RUNS, *(f"{n}, {form}" for n in SEVERAL for form in FORMATS), *(f"{n}, in a group" for n in IN_GROUPS))


def worst(stages: list[Any], model: nn.Module) -> float:
    """The largest difference of a gradient of the stages from the model's."""
    pairs = [(p.grad, model.get_parameter(name).grad) for s in stages for name, p in s.submod.named_parameters()]
    return max(float("inf") if a is None or b is None else float((a - b).abs().max()) for a, b in pairs)


def reference() -> Model:
    """The model with the gradients of one batch."""
    model, (x, y) = Model(), batch(0)
    F.cross_entropy(model(x), y).backward()
    return model


def error(root: str, run: Run, options: Mapping[str, Any]) -> float:
    """How far the gradients of one step are off on this rank."""
    stages = stages_of(root, run, Model(), MICROBATCHES)
    step(schedule_of(root, run, stages, options, MICROBATCHES), stages, *batch(0))
    return worst(stages, reference())


def error_from_file(root: str, run: Run, options: Mapping[str, Any], folder: Path, form: str) -> float:
    """The same for a schedule that this rank wrote into a file and read again."""
    stages = stages_of(root, run, Model(), MICROBATCHES)
    file = folder / f"{run.schedule}-{form}-{dist.get_rank()}.csv"
    schedule_of(root, run, stages, options, MICROBATCHES)._dump_csv(str(file), format=form)
    read = schedule_of(root, Run("_PipelineScheduleRuntime", run.stages_per_rank), stages, options, MICROBATCHES)
    read._load_csv(str(file), format=form)
    step(read, stages, *batch(0))
    return worst(stages, reference())


def error_in_group(root: str, run: Run, options: Mapping[str, Any]) -> float:
    """The same for one of two pipelines of two ranks each."""
    group = dist.new_subgroups(group_size=2)[0]
    assert isinstance(group, dist.ProcessGroup)
    stages = stages_of(root, run, Model(), MICROBATCHES, group)
    step(schedule_of(root, run, stages, options, MICROBATCHES), stages, *batch(0))
    return worst(stages, reference())


def errors(root: str, options: Mapping[str, Any], folder: Path) -> dict[str, float]:
    """All of them on this rank, by name."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {name: error(root, run, options) for name, run in RUNS.items()}
        files = [(name, form) for name in SEVERAL for form in FORMATS]
        found |= {f"{n}, {form}": error_from_file(root, RUNS[n], options, folder, form) for n, form in files}
        return found | {f"{n}, in a group": error_in_group(root, RUNS[n], options) for n in IN_GROUPS}
