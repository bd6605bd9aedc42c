import pytest
import torch

from tests.interop.pipelining.schedules.made import as_text, made


def forward_only(**options):
    return made("_ScheduleForwardOnly", 2, 2, **options)


def test_its_rows_are_forwards():
    assert {r: as_text(row) for r, row in forward_only().pipeline_order.items()} == {
        0: ["0F0", "0F1", "."],
        1: [".", "1F0", "1F1"],
    }


@pytest.mark.parametrize("given", [{"target": torch.zeros(2)}, {"losses": []}, {"target_mbs": [1, 2]}])
def test_it_knows_no_loss(given, engines):
    with pytest.raises(RuntimeError, match="Forward-only schedule does not support loss computation"):
        forward_only().step(torch.zeros(2), **given)


def test_it_never_trains(engines):
    schedule = forward_only(loss_fn=torch.nn.functional.mse_loss)
    with torch.no_grad():
        schedule.step(torch.zeros(2))
        schedule.eval(torch.zeros(2))
    assert [training for _, training, _, _ in engines[0].calls] == [False, False]
