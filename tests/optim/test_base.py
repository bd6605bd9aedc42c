import pytest
import torch

from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe.optim import (
    Optimizer,
    adam,
    adamw,
    apply,
    chain,
    clip_by_global_norm,
    constant,
    map_slots,
    sgd,
    warmup_cosine,
    zero_slots,
)


def square(step):
    return step * step


def test_zero_slots_mirror_the_parameters():
    params = {"w": torch.ones(2, 3, dtype=torch.bfloat16), "b": torch.nn.Parameter(torch.ones(()))}
    slots = zero_slots(params, "m")
    assert {name: (x.shape, x.dtype) for name, x in slots["m"].items()} == {
        "w": ((2, 3), torch.bfloat16),
        "b": ((), torch.float32),
    }
    assert not slots["m"]["b"].requires_grad


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
@pytest.mark.parametrize("optimizer", [sgd(0.1), adam(0.1)])
def test_other_dtypes_are_refused(optimizer, dtype):
    with pytest.raises(FunpipeTypeError, match=r"parameter 'w' is torch\.\w+.*leave 'w' out"):
        optimizer.init({"w": torch.zeros(2, dtype=dtype)})


def test_map_slots_reaches_into_chains():
    optimizer = chain(clip_by_global_norm(1.0), adam(0.1))
    state = map_slots(lambda slot: {name: x + 1 for name, x in slot.items()}, optimizer.init({"w": torch.zeros(1)}))
    assert state == {"0": {}, "1": {"m": {"w": torch.ones(1)}, "v": {"w": torch.ones(1)}}}


def test_map_slots_of_nothing():
    assert map_slots(lambda slot: slot, adam(0.1).init({})) == {"m": {}, "v": {}}


@pytest.mark.parametrize(
    "optimizer, text",
    [
        (sgd(0.1), "sgd(lr=0.1)"),
        (sgd(constant(0.1), momentum=0.9), "sgd(lr=0.1, momentum=0.9)"),
        (sgd(square), "sgd(lr=square)"),
        (
            chain(clip_by_global_norm(1.0), adamw(warmup_cosine(0.1, 2, 9))),
            "chain(clip_by_global_norm(max_norm=1.0), adamw(lr=warmup_cosine(0.1, 2, 9, 0.0), "
            "betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01))",
        ),
    ],
)
def test_prints_its_settings(optimizer, text):
    assert str(optimizer) == text


@pytest.mark.parametrize("optimizer", [sgd(0.1, momentum=0.9, dampening=0.1), adamw(warmup_cosine(0.1, 2, 9))])
def test_no_value_is_read_on_the_host(optimizer):
    """Meta tensors have no values: whatever depended on one in Python would fail."""
    step, params = torch.empty((), dtype=torch.int64, device="meta"), {"w": torch.empty(3, device="meta")}
    scalars = optimizer.scalars(step)
    assert all(x.dtype == torch.float64 and x.dim() == 0 and x.is_meta for x in scalars.values())
    params, state = apply(optimizer, params, params, optimizer.init(params), step)
    assert params["w"].is_meta


def test_an_update_that_draws_is_of_leaves():
    """The entries of an elementwise one are buckets, so its numbers would depend on the cut."""
    with pytest.raises(FunpipeError, match=r"noisy draws or reads names, and its scope is 'element'.*Say scope='leaf'"):
        Optimizer(lambda params: {}, lambda *args: args[2:0:-1], name="noisy", needs_key=True)
