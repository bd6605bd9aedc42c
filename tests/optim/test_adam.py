import pytest
import torch

from funpipe._errors import FunpipeError, StateError
from funpipe.optim import adam, apply


def test_state_is_the_two_moments():
    optimizer, params = adam(0.1), {"w": torch.ones(1)}
    _, state = apply(optimizer, params, {"w": torch.tensor([2.0])}, optimizer.init(params), torch.tensor(0))
    assert state["m"]["w"].item() == pytest.approx(0.2)
    assert state["v"]["w"].item() == pytest.approx(0.004)


def test_nothing_changes_in_place():
    optimizer, params, grads = adam(0.1), {"w": torch.ones(2)}, {"w": torch.full((2,), 2.0)}
    state = optimizer.init(params)
    apply(optimizer, params, grads, state, torch.tensor(0))
    assert params["w"].tolist() == [1.0, 1.0]
    assert grads["w"].tolist() == [2.0, 2.0]
    assert state["m"]["w"].tolist() == [0.0, 0.0]


def test_state_of_another_optimizer_is_refused():
    with pytest.raises(StateError, match=r"slots \['momentum'\], and this optimizer keeps \['m', 'v'\]; pass"):
        apply(adam(0.1), {"w": torch.ones(1)}, {"w": torch.ones(1)}, {"momentum": {}}, torch.tensor(0))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lr": -1.0}, r"adam: lr is -1\.0"),
        ({"betas": (1.0, 0.9)}, r"adam: betas\[0\] is 1\.0, and must be in \[0, 1\); pass a number such as 0\.9"),
        ({"betas": (0.9, -0.1)}, r"adam: betas\[1\] is -0\.1.*such as 0\.999"),
        ({"eps": -1.0}, r"adam: eps is -1\.0.*such as 1e-08"),
        ({"weight_decay": -1.0}, r"adam: weight_decay is -1\.0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(FunpipeError, match=message):
        adam(**settings)
