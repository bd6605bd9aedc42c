"""The models and batches."""

from dataclasses import replace

import pytest
import torch

from tests.benchmarks.cases import CASES, Case, case_of
from tests.benchmarks.models import cross_entropy, part_of
from tests.benchmarks.ours import Funpipe, Options
from tests.benchmarks.peers_single import loop

NAMES = [name for name in CASES if name != "gpt2"]


def tiny(name: str) -> Case:
    return replace(CASES[name], width=8, blocks=2, rows=1, microbatches=2)


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_batch_are_the_same_every_time(name):
    case = tiny(name)
    one, two = case.model().state_dict(), case.model().state_dict()
    assert all(torch.equal(one[n], two[n]) for n in one)
    assert all(torch.equal(a, b) for a, b in zip(case.batch(), case.batch(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_has_all_rows_and_a_loss(name):
    case = tiny(name)
    x, y = case.batch()
    assert len(x) == len(y) == case.rows * case.microbatches
    assert cross_entropy(case.model()(x), y).ndim == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_two_ranks_are_the_model(name):
    case = replace(tiny(name), blocks=3)
    model, (x, _) = case.model(), case.batch()
    parts = [part_of(model, rank, 2) for rank in range(2)]
    assert [len(part.blocks) for part in parts] == [1, 2]
    assert torch.equal(parts[1](parts[0](x)), model(x))
    assert sum(p.numel() for part in parts for p in part.parameters()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_funpipe_and_both_eager_loops_train_alike(name):
    case = tiny(name)
    ours = Funpipe(case, Options(backend="interpret"))
    others = [loop(case, case.model(), "cpu", parts, None) for parts in (1, case.microbatches)]
    for _ in range(3):
        loss = ours()()
        assert [other()() for other in others] == pytest.approx([loss, loss], rel=case.tolerance)


def test_a_case_takes_other_numbers():
    case = case_of("small", blocks=24, microbatches=64)
    assert (case.blocks, case.microbatches, case.width) == (24, 64, 32)
    assert case_of("small") == CASES["small"]


def test_half_precision_may_be_further_apart():
    assert CASES["gpt2"].tolerance > CASES["small"].tolerance == 1e-4
