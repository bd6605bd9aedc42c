import pytest
import torch

from funpipe._errors import FunpipeError
from funpipe.optim import add_noise, apply, chain, sgd

SETTINGS = {"noise_multiplier": 1.5, "max_norm": 2.0, "batch_size": 6, "key": 0}


def drawn(step=0, dtype=torch.float32, size=20000, names=("w",), **changes):
    """The noise on gradients that are zero."""
    optimizer = chain(add_noise(**SETTINGS | changes), sgd(1.0))
    params = {n: torch.zeros(size, dtype=dtype) for n in names}
    new, _ = apply(optimizer, params, params, optimizer.init(params), torch.tensor(step))
    return {n: -t for n, t in new.items()}


def test_its_mean_and_deviation():
    noise = drawn()["w"]
    assert abs(noise.mean()) < 4 * 0.5 / 20000**0.5
    assert abs(noise.std() - 0.5) < 0.01


def test_its_tails_are_normal():
    share = (drawn()["w"].abs() > 1.0).float().mean()
    assert abs(share - 0.0455) < 0.006


def test_leaves_steps_and_keys_draw_their_own():
    first, second = drawn(names=("w", "v")).values()
    others = [second, drawn(step=1)["w"], drawn(key=1)["w"]]
    for other in others:
        correlation = torch.corrcoef(torch.stack([first, other]))[0, 1]
        assert abs(correlation) < 0.03
    assert torch.equal(first, drawn()["w"])


def test_a_leaf_draws_the_same_whatever_lies_beside_it():
    assert torch.equal(drawn(names=("w",))["w"], drawn(names=("a", "w"))["w"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype):
    noise = drawn(dtype=dtype)["w"]
    assert noise.dtype == dtype and abs(noise.float().std() - 0.5) < 0.01


def test_no_noise_changes_nothing():
    assert not drawn(noise_multiplier=0.0)["w"].any()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"noise_multiplier": -1.0}, "noise_multiplier is -1.0; pass a number 0 or above"),
        ({"max_norm": 0.0}, "max_norm is 0.0; pass a number above 0"),
        ({"max_norm": "1"}, "max_norm is '1'; pass a number above 0"),
        ({"batch_size": 0}, "batch_size is 0; pass a number above 0"),
    ],
)
def test_numbers_out_of_range(changes, text):
    with pytest.raises(FunpipeError, match=text):
        add_noise(**SETTINGS | changes)


def test_without_a_key_of_its_own_it_draws_from_that_of_the_step():
    optimizer, params = chain(add_noise(**SETTINGS | {"key": None}), sgd(1.0)), {"w": torch.zeros(20000)}
    given = (params, params, optimizer.init(params), torch.tensor(3))
    new, _ = apply(optimizer, *given, key=torch.tensor(0))
    assert torch.equal(-new["w"], drawn(step=3)["w"])
    with pytest.raises(FunpipeError, match=r"add_noise has no key: .* fp\.private_step\(\.\.\., key=0\)"):
        apply(optimizer, *given)


def test_how_it_prints():
    assert str(add_noise(**SETTINGS)) == "add_noise(noise_multiplier=1.5, max_norm=2.0, batch_size=6, key=0)"
