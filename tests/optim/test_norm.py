import torch

from funpipe.optim import norm_of_squares, square_sum


def test_squares_of_half_precision_are_summed_in_float32():
    assert square_sum(torch.full((3,), 1000.0, dtype=torch.float16)).item() == 3e6


def test_float64_keeps_its_precision():
    assert square_sum(torch.ones(2, dtype=torch.float64)).dtype == torch.float64


def test_strides_do_not_change_the_bits():
    grad = torch.randn(33, 65, generator=torch.Generator().manual_seed(0))
    assert torch.equal(square_sum(grad.t().contiguous().t()), square_sum(grad))


def test_order_is_that_of_the_names():
    """In float32 the order of these additions shows: 1 is lost when it comes after 1e8."""
    squares = {"b": torch.tensor(1e8), "a": torch.tensor(1.0), "c": torch.tensor(-1e8)}
    assert norm_of_squares(squares).item() == 0.0
    assert norm_of_squares({"z": squares["a"], "b": squares["b"], "c": squares["c"]}).item() == 1.0


def test_nothing_has_norm_zero():
    assert norm_of_squares({}).item() == 0.0
