"""What is computed again changes what is held, and nothing else."""

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import nn

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.functional import functionalize, microbatch
from funpipe.passes import optimize
from funpipe.programs import lower, verify
from funpipe.schedules import GPipe, OneFOneB, merge
from funpipe.stages import Budget, Roofline, crossing, partition, rematerialise, saved_bytes, split_at
from funpipe.tracing import trace
from tests.programs import models as marked
from tests.running import run_programs
from tests.stages import test_random_models as random_models
from tests.stages.models import BATCH_DIMS, batch_of, buffers_of, models, params_of
from tests.stages.recomputed import again_nodes, computed_again
from tests.stages.region_values import run_regions
from tests.tracing.gpt import gpt

X = torch.linspace(0, 1, 12).view(4, 3)
CHAIN = {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}

policies = st.one_of(st.just("full"), st.floats(0, 1))


def chain(p, x):
    return torch.tanh(torch.tanh(x @ p["a"]) @ p["b"]).sum()


def with_policies(stages, chosen):
    """A number stands for a budget: a part of the way from what cannot be helped to what is saved without one."""
    return rematerialise(stages, [policy_of(s, p) for s, p in zip(stages, chosen, strict=True)])


def policy_of(stage, policy):
    if isinstance(policy, str):
        return policy
    least = least_bytes(stage)
    return Budget(int(least + policy * (saved_bytes(stage) - least)))


def least_bytes(stage):
    try:
        return saved_bytes(*rematerialise((stage,), 0))
    except StageError as error:
        return int(str(error).partition("a budget of at least ")[2].split(",")[0])


# The law: the same bits


@given(st.data(), models(), st.integers(1, 5))
@random_models.examples
def test_regions_keep_their_promises(data, model, num_stages):
    traced = random_models.traced_of(model, torch.float32)
    before = random_models.stages_of(data.draw, traced, num_stages)
    stages = with_policies(before, data.draw(st.lists(policies, min_size=num_stages, max_size=num_stages)))
    (batch,) = microbatch.split(batch_of(0, torch.float32, 1), 1, BATCH_DIMS)
    kinds = {"param": params_of(0, torch.float32), "batch": batch, "buffer": buffers_of(torch.float32)}
    leaves = {f"{kind}.{n}": t.detach() for kind, part in kinds.items() for n, t in part.items()}
    leaves |= {f"const.{n}": t for n, t in traced.consts.items()}
    found, wanted = run_regions(stages, leaves), run_regions(before, leaves)
    assert all(torch.equal(found[name], wanted[name]) for name in found.keys() & wanted.keys())
    assert crossing(stages) == crossing(before)
    for new, old in zip(stages, before, strict=True):
        assert new.F.inputs == old.F.inputs and new.results == old.results and new.terms == old.terms
        assert new.B is None or new.B.outputs == old.B.outputs


@given(st.data(), models(), st.integers(1, 4), st.integers(1, 6), st.sampled_from([GPipe(), OneFOneB()]))
@random_models.examples
def test_every_cut_schedule_and_choice_gives_the_same_bits(data, model, num_ranks, num_microbatches, schedule):
    dtype = torch.float32
    traced = random_models.traced_of(model, dtype)
    before = random_models.stages_of(data.draw, traced, num_ranks)
    stages = with_policies(before, data.draw(st.lists(policies, min_size=num_ranks, max_size=num_ranks)))
    found = random_models.step_of(traced, stages, schedule, dtype, num_microbatches)
    wanted = random_models.step_of(traced, partition(traced, ()), GPipe(), dtype, num_microbatches)
    assert found.same_bits(wanted)


@pytest.mark.parametrize("loss_fn", [*marked.MODELS, marked.normalized])
@pytest.mark.parametrize("schedule", [GPipe(), OneFOneB()])
@pytest.mark.parametrize("remat", [["full"] * 3, ["full", 0.5, "none"]], ids=["full", "mixed"])
def test_tied_leaves_skips_weights_and_buffers(loss_fn, schedule, remat):
    traced = marked.traced_of(loss_fn)
    before = marked.stages_of(traced, 3)
    stages = with_policies(before, remat)
    for table in (schedule.table(3, 4), merge(schedule.table(3, 4))):
        params, buffers = marked.params_of(loss_fn), marked.buffers_of(loss_fn)
        found, wanted = (
            run_programs(traced, s, table, params, marked.batch_of(4), buffers=buffers) for s in (stages, before)
        )
        assert found.same_bits(wanted)
        verify(optimize(lower(traced, stages, table)))


# What is held


def test_nothing_is_changed_without_being_asked_for():
    stages = partition(trace(chain, CHAIN, X), (2,))
    assert rematerialise(stages, "none") == stages
    assert rematerialise(stages, [10**6, Budget(10**6)]) == stages


def test_full_holds_nothing_but_what_crosses_into_the_stage():
    stages = partition(trace(chain, CHAIN, X), (2,))
    first, second = rematerialise(stages, "full")
    assert [saved_bytes(s) for s in stages] == [48, 48 + 32]
    assert [saved_bytes(s) for s in (first, second)] == [0, 48]
    assert first.F.outputs == ("tanh",), "the second stage reads it"
    assert second.F.outputs == ("sum_1",)
    assert set(first.B.inputs) - set(stages[0].B.inputs) == {"param.a"}


def test_statistics_are_updated_once_and_a_version_is_held_that_is_read_again():
    traced = marked.traced_of(marked.normalized)
    before = marked.stages_of(traced, 2)
    stages = rematerialise(before, "full")
    assert "_native_batch_norm_legit_functional_recomputed" in stages[0].B.as_text()
    assert any(name.startswith("buffer.") for name in stages[0].B.inputs)
    assert not any(name in stages[0].B.outputs for name in stages[0].results.values())


def test_an_evaluation_has_nothing_to_compute_again():
    stages = partition(trace(chain, CHAIN, X, differentiate=False), (2,))
    assert rematerialise(stages, ["full", 0]) == stages


# What is chosen


def test_cheap_values_go_first_and_products_last():
    loss, params, batch = gpt(blocks=2)
    (before,) = partition(trace(loss, params, batch), ())
    most, again = saved_bytes(before), []
    for share in (0.8, 0.5):
        (stage,) = rematerialise((before,), Budget(int(share * most), Roofline(flops=1e8)))
        assert saved_bytes(stage) <= share * most
        again.append({str(n.target) for n in again_nodes(stage)})
    assert not any("mm" in target or "attention" in target for target in again[0])
    (stage,) = rematerialise((before,), "full")
    assert any("mm" in str(n.target) for n in again_nodes(stage))


def test_the_widest_value_of_a_block_is_the_first_to_go():
    blocks = (nn.Sequential(nn.Linear(6, 24), nn.GELU(), nn.Linear(24, 6)) for _ in range(2))
    apply, params, _ = functionalize(nn.Sequential(*blocks))
    traced = trace(lambda p, x: F.mse_loss(apply(p, {}, x)[0], x), params, torch.randn(8, 6))
    stages = partition(traced, split_at({"1": "beginning"})(traced))
    for stage in rematerialise(stages, [saved_bytes(s) - 8 * 24 * 4 for s in stages]):
        assert computed_again(stage) == (["gelu"] if stage.index == 0 else ["gelu_1"])


# Mistakes


@pytest.mark.parametrize("remat", ["half", True, 0.5, None, ["full", "most"], {"none"}])
def test_a_word_that_means_nothing(remat):
    with pytest.raises(FunpipeTypeError, match=r"remat is .*; use 'none', 'full', fp.stages.Budget\(nbytes\) or"):
        rematerialise(partition(trace(chain, CHAIN, X), (2,)), remat)


def test_another_number_of_stages():
    with pytest.raises(StageError, match="remat has 3 entries, but the model is cut into 2 stages: give one for each"):
        rematerialise(partition(trace(chain, CHAIN, X), (2,)), ["none"] * 3)


def test_a_budget_that_cannot_be_kept():
    stages = partition(trace(chain, CHAIN, X), (2,))
    text = "stage 1 may save 47 bytes of a microbatch, .* needs 48: give it a budget of at least 48"
    with pytest.raises(StageError, match=text):
        rematerialise(stages, ["none", 47])
    assert saved_bytes(rematerialise(stages, ["none", 48])[1]) == 48


@pytest.mark.parametrize(("nbytes", "error"), [(-1, StageError), (True, FunpipeTypeError), (1e6, FunpipeTypeError)])
def test_a_budget_is_a_number_of_bytes(nbytes, error):
    with pytest.raises(error, match="a budget is .*; pass"):
        Budget(nbytes)
