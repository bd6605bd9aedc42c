import pytest
import torch

from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe.optim import apply, constant, linear, sgd, warmup_cosine


def rates(schedule, steps):
    return [schedule(torch.tensor(step)).item() for step in range(steps)]


def torch_rates(make, lr, steps):
    """The learning rates that a scheduler of torch gives an optimizer."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_constant():
    assert rates(constant(0.3), 3) == [0.3] * 3


def test_linear_equals_torch():
    make = lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 0.25, 0.75, total_iters=5)  # noqa: E731
    assert rates(linear(0.1, 0.3, 5), 9) == pytest.approx(torch_rates(make, 0.4, 9), rel=1e-12)


def test_warmup_equals_torch():
    make = lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 4)  # noqa: E731
    assert rates(warmup_cosine(0.4, 4, 14), 5) == pytest.approx(torch_rates(make, 0.4, 5), rel=1e-12)


@pytest.mark.parametrize("warmup", [0, 4])
def test_cosine_equals_torch_after_the_warmup(warmup):
    make = lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, eta_min=0.05)  # noqa: E731
    found = rates(warmup_cosine(0.4, warmup, warmup + 10, end=0.05), warmup + 11)
    assert found[warmup:] == pytest.approx(torch_rates(make, 0.4, 11), rel=1e-12)


def test_the_end_is_held():
    assert rates(warmup_cosine(0.4, 2, 5, end=0.1), 9)[5:] == [0.1] * 4
    assert rates(linear(0.4, 0.1, 5), 9)[5:] == pytest.approx([0.1] * 4)


@pytest.mark.parametrize("schedule", [constant(0.1), linear(0.1, 0.2, 3), warmup_cosine(0.1, 1, 3)])
def test_values_are_0_dim_float64(schedule):
    value = schedule(torch.tensor(1))
    assert value.dtype == torch.float64 and value.dim() == 0


def test_an_optimizer_reads_the_rate_of_its_step():
    optimizer = sgd(linear(0.0, 1.0, 4))
    params, _ = apply(optimizer, {"w": torch.ones(1)}, {"w": torch.ones(1)}, {}, torch.tensor(3))
    assert params["w"].item() == 0.25


@pytest.mark.parametrize("value", [0.1, torch.ones(1)])
def test_functions_that_return_no_0_dim_tensor_are_refused(value):
    with pytest.raises(FunpipeTypeError, match=r"passed as lr returned .*return a 0-dim tensor computed from the step"):
        sgd(lambda step: value).scalars(torch.tensor(0))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: constant(-1.0), r"constant: lr is -1\.0"),
        (lambda: linear(-1.0, 0.0, 5), r"linear: init is -1\.0"),
        (lambda: linear(1.0, float("inf"), 5), r"linear: end is inf"),
        (lambda: linear(1.0, 0.0, 0), r"linear: steps is 0; pass at least 1"),
        (lambda: linear(1.0, 0.0, 2.5), r"linear: steps is 2\.5, a float; pass a whole number"),
        (lambda: warmup_cosine(1.0, -1, 5), r"warmup_cosine: warmup_steps is -1; pass at least 0"),
        (lambda: warmup_cosine(1.0, 5, 5), r"total_steps is 5, and the warm-up alone takes 5.*pass a larger one"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(FunpipeError, match=message):
        make()
