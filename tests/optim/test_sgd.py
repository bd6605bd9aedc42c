import pytest
import torch

from funpipe._errors import FunpipeError
from funpipe.optim import apply, sgd


def test_without_momentum_there_is_no_state():
    assert sgd(0.1).init({"w": torch.ones(2)}) == {}


def test_first_momentum_is_the_undampened_gradient():
    optimizer, params = sgd(0.1, momentum=0.9, dampening=0.5), {"w": torch.ones(1)}
    grads = {"w": torch.tensor([2.0])}
    _, state = apply(optimizer, params, grads, optimizer.init(params), torch.tensor(0))
    assert state["momentum"]["w"].item() == 2.0
    _, state = apply(optimizer, params, grads, state, torch.tensor(1))
    assert state["momentum"]["w"].item() == pytest.approx(0.9 * 2.0 + 0.5 * 2.0)


def test_a_zero_gradient_still_decays():
    params, _ = apply(sgd(0.1, weight_decay=1.0), {"w": torch.ones(1)}, {"w": torch.zeros(1)}, {}, torch.tensor(0))
    assert params["w"].item() == pytest.approx(0.9)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lr": -0.1}, r"sgd: lr is -0\.1.*pass a number such as 0\.001"),
        ({"lr": float("nan")}, r"sgd: lr is nan, and must be at least 0"),
        ({"lr": "0.1"}, r"sgd: lr is '0\.1', a str; pass a number"),
        ({"lr": 0.1, "momentum": -1.0}, r"sgd: momentum is -1\.0.*such as 0\.9"),
        ({"lr": 0.1, "dampening": -1.0}, r"sgd: dampening is -1\.0"),
        ({"lr": 0.1, "weight_decay": -1.0}, r"sgd: weight_decay is -1\.0"),
        ({"lr": 0.1, "nesterov": True}, r"nesterov with momentum 0\.0.*pass a momentum above 0"),
        ({"lr": 0.1, "nesterov": True, "momentum": 0.9, "dampening": 0.1}, r"dampening 0\.1; .*leave dampening at 0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(FunpipeError, match=message):
        sgd(**settings)
