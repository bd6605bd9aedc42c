"""Any model, cut anywhere, in any schedule, computes what eager autograd computes on the uncut model."""

import hypothesis.strategies as st
import torch
from hypothesis import HealthCheck, given, reject, settings

from funpipe._errors import StageError
from funpipe.functional import microbatch
from funpipe.schedules import GPipe, OneFOneB
from funpipe.stages import partition
from funpipe.tracing import trace
from tests.running import Step, eager, run_programs
from tests.stages.models import BATCH_DIMS, Model, batch_of, buffers_of, models, params_of
from tests.stages.region_values import run_regions

examples = settings(max_examples=20, derandomize=True, suppress_health_check=list(HealthCheck))


def traced_of(model: Model, dtype: torch.dtype):
    (part,) = microbatch.split(batch_of(0, dtype, 1), 1, BATCH_DIMS)
    return trace(model, params_of(0, dtype), part, buffers=buffers_of(dtype))


def stages_of(draw, traced, count):
    cuts = draw(st.lists(st.integers(1, len(traced.forward) - 1), min_size=count - 1, max_size=count - 1, unique=True))
    try:
        return partition(traced, tuple(sorted(cuts)))
    except StageError:
        reject()


def step_of(traced, stages, schedule, dtype, num_microbatches) -> Step:
    table = schedule.table(len(stages), num_microbatches)
    return run_programs(
        traced,
        stages,
        table,
        params_of(0, dtype),
        batch_of(0, dtype, num_microbatches),
        buffers=buffers_of(dtype),
        batch_dims=BATCH_DIMS,
    )


def assert_close(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    scale = max([1.0, *(float(t.abs().max()) for t in wanted.values())])
    for name in wanted:
        assert (found[name] - wanted[name]).abs().max() <= 1e-10 * scale, name


@given(st.data(), models(), st.integers(1, 6))
@examples
def test_regions_keep_their_promises(data, model, num_stages):
    traced = traced_of(model, torch.float32)
    stages = stages_of(data.draw, traced, num_stages)
    (batch,) = microbatch.split(batch_of(0, torch.float32, 1), 1, BATCH_DIMS)
    kinds = {"param": params_of(0, torch.float32), "batch": batch, "buffer": buffers_of(torch.float32)}
    leaves = {f"{kind}.{n}": t.detach() for kind, part in kinds.items() for n, t in part.items()}
    values = run_regions(stages, leaves | {f"const.{n}": t for n, t in traced.consts.items()})
    assert {n for s in stages for n in s.results} <= set(traced.outputs)
    assert all(
        values[v].shape == traced.params[leaf].shape for s in stages for leaf in s.terms for _, v in s.terms[leaf]
    )


@given(st.data(), models(), st.integers(1, 4), st.integers(1, 8), st.sampled_from([GPipe(), OneFOneB()]))
@examples
def test_gradients_are_those_of_eager_autograd(data, model, num_ranks, num_microbatches, schedule):
    dtype = torch.float64
    traced = traced_of(model, dtype)
    found = step_of(traced, stages_of(data.draw, traced, num_ranks), schedule, dtype, num_microbatches)
    batch, params = batch_of(0, dtype, num_microbatches), params_of(0, dtype)
    frozen = frozenset({"frozen"})
    wanted = eager(model, params, batch, num_microbatches, frozen=frozen, buffers=buffers_of(dtype), spec=BATCH_DIMS)
    assert_close(found.grads, wanted.grads)
    assert_close({"loss": found.loss}, wanted.results)
    assert_close(buffers_of(dtype) | found.buffers, wanted.buffers)


@given(st.data(), models(), st.integers(2, 4), st.integers(1, 8), st.sampled_from([GPipe(), OneFOneB()]))
@examples
def test_every_cut_and_schedule_gives_the_same_bits(data, model, num_ranks, num_microbatches, schedule):
    dtype = torch.float32
    traced = traced_of(model, dtype)
    found = step_of(traced, stages_of(data.draw, traced, num_ranks), schedule, dtype, num_microbatches)
    wanted = step_of(traced, partition(traced, ()), GPipe(), dtype, num_microbatches)
    assert found.same_bits(wanted)
