"""Any model, cut anywhere, in any schedule, computes what eager autograd computes on the uncut model."""

from contextlib import suppress

import hypothesis.strategies as st
import torch
from hypothesis import HealthCheck, given, reject, settings

from funpipe._errors import StageError
from funpipe.functional import microbatch
from funpipe.schedules import GPipe, OneFOneB, Table, check
from funpipe.stages import partition, rematerialise, saved_bytes, split_backward
from funpipe.stages.costs import is_product
from funpipe.stages.masked import MASKED
from funpipe.tracing import trace
from tests.running import Step, eager, run_programs
from tests.split_tables import random_table
from tests.stages.models import BATCH_DIMS, Model, batch_of, buffers_of, models, params_of
from tests.stages.region_values import run_halves, run_regions

examples = settings(max_examples=20, derandomize=True, suppress_health_check=list(HealthCheck))
fewer = settings(examples, max_examples=12)


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
    table = schedule if isinstance(schedule, Table) else schedule.table(len(stages), num_microbatches)
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


@st.composite
def split_cases(draw):
    """A model, its stages with some rematerialised, and a table with split backwards and overlaps."""
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    model, count, num_microbatches = draw(models()), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    traced = traced_of(model, dtype)
    stages = stages_of(draw, traced, count)
    policies = draw(st.lists(st.sampled_from(["none", "full", "half"]), min_size=count, max_size=count))
    for stage, policy in zip(stages, policies, strict=True):
        budget = saved_bytes(stage) // 2 if policy == "half" else policy
        with suppress(StageError):  # a stage may have nothing that half of the bytes would do for
            one_by_one = ["none"] * stage.index + [budget] + ["none"] * (count - stage.index - 1)
            stages = rematerialise(stages, one_by_one)
    random = draw(st.randoms(use_true_random=False))
    table = random_table(random, count, num_microbatches, draw(st.integers(1, count)))
    check(table)
    return model, dtype, traced, stages, table, num_microbatches


@given(split_cases())
@fewer
def test_split_and_overlapped_backwards_give_the_bits_of_whole_ones(case):
    model, dtype, traced, stages, table, num_microbatches = case
    found = step_of(traced, stages, table, dtype, num_microbatches)
    assert found.same_bits(step_of(traced, partition(traced, ()), GPipe(), dtype, num_microbatches))


@given(split_cases())
@fewer
def test_a_split_backward_keeps_the_promises_of_regions(case):
    """Both parts together: W runs right behind I, and what I leaves is all that it needs."""
    model, dtype, traced, stages, table, num_microbatches = case
    (batch,) = microbatch.split(batch_of(0, dtype, 1), 1, BATCH_DIMS)
    kinds = {"param": params_of(0, dtype), "batch": batch, "buffer": buffers_of(dtype)}
    leaves = {f"{kind}.{n}": t.detach() for kind, part in kinds.items() for n, t in part.items()}
    leaves |= {f"const.{n}": t for n, t in traced.consts.items()}
    split = split_backward(stages)
    whole, halves = run_regions(stages, leaves), run_halves(split, leaves)
    assert all(torch.equal(halves[name], whole[name]) for name in whole)
    for stage in split:
        for leaf, places in stage.terms_in("W").items():
            pairs = zip(places, stage.terms[leaf], strict=True)
            assert all(torch.equal(halves[new], whole[old]) for (_, new), (_, old) in pairs)
        assert products(stage.B) == sorted(p for r in (stage.I, stage.W) if r for p in products(r))


def products(region) -> list[str]:
    """The names of what multiplies; what a mask takes apart has two."""
    nodes = region.module.graph.nodes if region else ()
    return sorted(n.name for n in nodes if is_product(n) and n.target not in MASKED)
