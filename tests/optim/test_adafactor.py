import pytest
import torch

from funpipe._errors import FunpipeError
from funpipe.optim import adafactor, apply
from tests.optim.references import assert_equal, both, draw

SHAPES = {"matrix": (7, 5), "vector": (11,), "number": (), "kernel": (3, 2, 4)}
SETTINGS = [
    {},
    {"weight_decay": 0.1, "d": 2.0, "beta2_decay": -0.5},
    {"eps": (1e-3, 1e-1), "lr": 0.3},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_equals_torch(settings, dtype, tolerance):
    reference = lambda leaves: torch.optim.Adafactor(leaves, foreach=False, **settings)  # noqa: E731
    assert_equal(*both(adafactor(**settings), reference, SHAPES, dtype), tolerance)


def test_a_matrix_keeps_a_row_and_a_column():
    state = adafactor().init(draw(0, SHAPES))
    assert {n: tuple(x.shape) for n, x in state["row_var"].items()} == {"matrix": (7, 1), "kernel": (3, 2, 1)}
    assert {n: tuple(x.shape) for n, x in state["col_var"].items()} == {"matrix": (1, 5), "kernel": (3, 1, 4)}
    assert {n: tuple(x.shape) for n, x in state["variance"].items()} == {"vector": (11,), "number": ()}


def test_sixteen_bits_are_computed_in_float32():
    optimizer, shapes = adafactor(0.1), {"w": (8, 8)}
    params = draw(0, shapes, torch.bfloat16)
    new, _ = apply(optimizer, params, draw(1, shapes, torch.bfloat16), optimizer.init(params), torch.tensor(0))
    wide = {"w": params["w"].float()}
    expected, _ = apply(
        optimizer, wide, {"w": draw(1, shapes, torch.bfloat16)["w"].float()}, optimizer.init(wide), torch.tensor(0)
    )
    torch.testing.assert_close(new["w"], expected["w"].bfloat16(), rtol=2**-7, atol=0)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"beta2_decay": 0.1}, r"beta2_decay is 0\.1; pass a number of at most 0, such as -0\.8"),
        ({"d": 0.5}, r"d is 0\.5; pass a number from 1 on"),
        ({"weight_decay": -1.0}, r"eps and weight_decay is -1\.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, text):
    with pytest.raises(FunpipeError, match=text):
        adafactor(**settings)
