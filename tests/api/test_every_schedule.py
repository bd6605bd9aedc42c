"""Every schedule on four processes trains as one process that plays all ranks does, to the bit."""

import pytest
import torch

import funpipe as fp
from tests.api import every_schedule
from tests.api.every_schedule import CASES, batch_of, params_of, training
from tests.api.models import eager, largest_error, largest_loss_error, same_bits

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def four():
    return fp.launch(every_schedule.on_four_ranks, 4, timeout=1500)


@pytest.fixture(scope="module")
def reference():
    data = [batch_of(seed) for seed in range(every_schedule.STEPS)]
    return eager(every_schedule.loss_fn, params_of(), data, lambda p: torch.optim.SGD(p, 0.1))


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_four_ranks_train_as_one(four, reference, case):
    alone = training(*case, None)
    params, losses = reference
    for rank in four:
        assert same_bits(rank[case], alone), case
    assert largest_loss_error(alone[0], losses) < 1e-5
    assert largest_error(alone[1], params) < 1e-5
