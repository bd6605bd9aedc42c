"""A training script of torch.distributed.pipelining, run with it and with the layer here, on two ranks."""

from collections.abc import Sequence

import pytest

import funpipe as fp
from tests.interop.pipelining.training import RUNS, train_all, unsplit

ORIGINAL, OURS = "torch.distributed.pipelining", "funpipe.interop.pipelining"
BACKENDS = ("regions", "step")
QUICK = ("GPipe", "1F1B", "1F1B, traced", "interleaved", "zero bubble, traced")
SLOW = tuple(name for name in RUNS if name not in QUICK)
BOTH = [(ORIGINAL, {}), (OURS, {"backend": "interpret"})]


def losses_of(ranks: list[dict[str, list[list[float]]]], name: str) -> list[list[float]]:
    """By root; of the one rank that has them."""
    (found,) = [rank[name] for rank in ranks if rank[name][0]]
    return found


def agree(ranks: list[dict[str, list[list[float]]]], names: Sequence[str]) -> None:
    """Asserts that every root's losses are those of one device."""
    for name in names:
        for losses in losses_of(ranks, name):
            assert losses == pytest.approx(unsplit(), rel=1e-5), name


def test_the_losses_are_those_of_the_original():
    agree(fp.launch(train_all, 2, BOTH, list(QUICK), timeout=150), QUICK)


@pytest.mark.full
def test_the_losses_of_the_other_schedules_are_those_of_the_original():
    agree(fp.launch(train_all, 2, BOTH, list(SLOW), timeout=300), SLOW)


@pytest.mark.full
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_losses_of_compiled_steps_are_the_same(backend: str):
    agree(fp.launch(train_all, 2, [(OURS, {"backend": backend})], list(QUICK), timeout=900), QUICK)
