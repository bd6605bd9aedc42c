import pytest
import torch

from funpipe.interop.pipelining.schedules import ScheduleGPipe
from tests.interop.pipelining.schedules.made import stage


def schedule(m=2, **options):
    return ScheduleGPipe(
        stage(1), m, **{"loss_fn": lambda output, target, scale=1: scale * (output - target), **options}
    )


def test_a_loss_is_kept_with_its_microbatch():
    """torch appends them, and gives the wrong one back where forwards run in another order."""
    found, last = schedule(), stage(1)
    for i in (1, 0):
        found._maybe_compute_loss(last, torch.tensor(10.0 + i), [torch.tensor(0.0)] * 2, i, {"scale": 2})
    assert [found._maybe_get_loss(last, i).item() for i in range(2)] == [20.0, 22.0]


def test_only_the_last_stage_has_losses():
    found, first = schedule(), stage(2, index=0)
    found._maybe_compute_loss(first, torch.tensor(1.0), [None, None], 0)
    assert found._internal_losses == [] and found._maybe_get_loss(first, 0) is None


def test_a_loss_that_was_not_computed_is_not_available():
    found, last = schedule(), stage(1)
    assert found._maybe_get_loss(last, 0) is None
    found._maybe_compute_loss(last, torch.tensor(1.0), [0.0, 0.0], 0)
    with pytest.raises(RuntimeError, match=r"Loss for microbatch 1 is not available\. Available losses"):
        found._maybe_get_loss(last, 1)


def test_losses_move_to_the_users_list():
    found, last, losses = schedule(), stage(1), ["old"]
    weight = torch.ones((), requires_grad=True)
    for i in range(2):
        found._maybe_compute_loss(last, weight * i, [0.0, 0.0], i)
    found._update_losses([last], losses)
    assert [loss.item() for loss in losses] == [0.0, 1.0] and found._internal_losses == []
    assert not any(loss.requires_grad for loss in losses)


def test_a_loss_that_is_missing_is_counted():
    found, last = schedule(), stage(1)
    found._maybe_compute_loss(last, torch.tensor(1.0), [0.0, 0.0], 1)
    with pytest.raises(RuntimeError, match="Expecting 2 losses but got 1"):
        found._update_losses(last, [])


def test_a_rank_without_the_last_stage_leaves_the_list_alone():
    losses = ["old"]
    schedule()._update_losses([stage(2, index=0)], losses)
    assert losses == ["old"]


def test_a_schedule_without_a_loss_says_so():
    with pytest.raises(RuntimeError, match="The schedule has no loss_fn"):
        schedule(loss_fn=None)._compute_loss(torch.tensor(1.0), None)
