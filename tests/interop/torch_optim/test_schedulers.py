import pytest
import torch
from torch.optim import lr_scheduler

import funpipe as fp
from funpipe.interop.torch_optim import from_scheduler
from funpipe.interop.torch_optim.errors import TorchOptimError
from tests.interop.torch_optim.models import advance, assert_same, batch, model, step_for

SCHEDULERS = {
    "step": lambda o: lr_scheduler.StepLR(o, 2, gamma=0.5),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.3, total_steps=10, cycle_momentum=False),
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.CosineAnnealingLR(o, 5)], milestones=[2]
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_trains_as_torch_does(name):
    module, other = model(), model()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    scheduler = SCHEDULERS[name](optimizer)
    for seed in range(5):
        optimizer.zero_grad()
        other(batch(seed)).square().mean().backward()
        optimizer.step()
        scheduler.step()
    step, state = step_for(module, fp.optim.sgd(from_scheduler(SCHEDULERS[name], 0.1, steps=5)))
    params, _ = step.gather(advance(step, state, range(5)))
    module.load_state_dict(params, strict=False)
    assert_same(module, other, 1e-12)


def test_the_last_rate_stays():
    rate = from_scheduler(SCHEDULERS["step"], 1.0, steps=3)
    assert rate(torch.tensor(100)).item() == 0.5


@pytest.mark.full
def test_a_compiled_step_reads_the_table():
    """As numbers of a step, computed from its count."""
    rate = from_scheduler(SCHEDULERS["step"], 1.0, steps=8)
    loss = lambda p, x: (x * p["w"]).sum()  # noqa: E731
    step = fp.train_step(loss, fp.optim.sgd(rate))
    state = step.init({"w": torch.zeros(1)}, torch.ones(1, 1))
    found = []
    for _ in range(5):
        state, _ = step(state, torch.ones(1, 1))
        found.append(float(step.gather(state)[0]["w"]))
    assert found == [-1.0, -2.0, -2.5, -3.0, -3.25]


def test_a_scheduler_with_a_metric_is_refused():
    with pytest.raises(TorchOptimError, match=r"ReduceLROnPlateau\.step\(\) fails without arguments.*fp\.optim\.apply"):
        from_scheduler(lr_scheduler.ReduceLROnPlateau, 0.1, steps=3)


def test_a_scheduler_that_changes_more_is_refused():
    with pytest.raises(TorchOptimError, match=r"OneCycleLR changes 'momentum' too.*cycle_momentum=False"):
        from_scheduler(lambda o: lr_scheduler.OneCycleLR(o, 0.3, total_steps=10), 0.1, steps=3)


def test_no_steps_are_refused():
    with pytest.raises(TorchOptimError, match=r"steps is 0; pass the number of steps"):
        from_scheduler(SCHEDULERS["step"], 0.1, steps=0)
