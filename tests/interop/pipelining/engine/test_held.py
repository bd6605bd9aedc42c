"""What users do to modules between steps is seen by the next step."""

import copy

import pytest
import torch
from torch import nn

import funpipe as fp
from funpipe.interop.pipelining.engine import Call
from tests.interop.pipelining.engine.pipelines import WIDTH, batch, eager, engine, gradients


class Times(nn.Module):
    def __init__(self):
        super().__init__()
        self.by, self.calls, self.kept = 1.0, 0, None

    def forward(self, x):
        self.calls += 1
        self.kept = x * self.by
        return self.kept


def modules():
    torch.manual_seed(0)
    return [
        nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)),
        nn.Sequential(Times(), nn.Linear(WIDTH, 3)),
    ]


def other_layer(found):
    found[0][1] = nn.Linear(WIDTH, WIDTH)
    nn.init.constant_(found[0][1].weight, 0.3)


def another_layer(found):
    found[0].append(nn.Tanh())


def other_number(found):
    found[1][0].by = 3.0


def a_hook(found):
    found[0].register_forward_hook(lambda module, args, out: 2 * out)


def other_data(found):
    found[0][0].weight.data = torch.full((WIDTH, WIDTH), 0.2)


def other_state(found):
    found[0][0].load_state_dict({"weight": torch.ones(WIDTH, WIDTH), "bias": torch.ones(WIDTH)}, assign=True)


CHANGES = [other_layer, another_layer, other_number, a_hook, other_data, other_state]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_seen(change):
    found, (x, y) = modules(), batch()
    made = engine(found)
    made.step(Call((x,), target=y))
    change(found)
    for module in found:
        module.zero_grad()
    made.step(Call((x,), target=y))
    plain = copy.deepcopy(found)
    for module in plain:
        module.zero_grad()
    eager(plain, x, y)
    torch.testing.assert_close(gradients(found), gradients(plain))


def test_what_forwards_do_to_attributes_plans_no_step_anew():
    found, (x, y) = modules(), batch()
    made = engine(found)
    for _ in range(3):
        made.step(Call((x,), target=y))
    assert len(made.ready) == 1 and found[1][0].kept is None


def test_an_attribute_that_comes_back_plans_no_step_anew():
    found, (x, y) = modules(), batch()
    made = engine(found)
    for by in (1.0, 2.0, 1.0, 2.0):
        found[1][0].by, found[1][0].calls = by, 0
        made.step(Call((x,), target=y))
    assert len(made.ready) == 2


def test_another_module_may_be_put_into_a_stage():
    found, (x, _) = modules(), batch()
    made = engine(found)
    made.step(Call((x,)), training=False)
    made.stages[1].submod = nn.Linear(WIDTH, 3)
    expected = made.stages[1].submod(found[0](x)).detach()
    torch.testing.assert_close(made.step(Call((x,)), training=False), expected)


def test_modules_of_another_dtype_are_planned_anew():
    found, (x, _) = modules(), batch()
    made = engine(found)
    made.step(Call((x,)), training=False)
    for module in found:
        module.double()
    assert made.step(Call((x.double(),)), training=False).dtype is torch.float64


def test_the_weights_of_a_loss_may_be_replaced():
    (x, y), loss_fn = batch(), nn.CrossEntropyLoss(weight=torch.ones(3))
    losses, found = [], modules()
    made = engine(found, loss_fn=loss_fn)
    made.step(Call((x,), target=y), losses=losses)
    loss_fn.weight = torch.tensor([4.0, 2.0, 1.0])
    made.step(Call((x,), target=y), losses=losses)
    plain = [loss_fn(found[1](found[0](a)), b).detach() for a, b in zip(x.chunk(4), y.chunk(4), strict=True)]
    torch.testing.assert_close(losses, plain)


def test_a_compiled_layer_is_a_layer():
    """Compiles nothing."""
    (x, y), found = batch(), modules()
    plain = copy.deepcopy(found)
    found[0][0] = torch.compile(found[0][0], backend="aot_eager")
    engine(found).step(Call((x,), target=y))
    eager(plain, x, y)
    torch.testing.assert_close(gradients(found), gradients(plain))


def test_a_step_that_cannot_be_traced_leaves_no_tensor_in_a_module():
    found, (x, y) = modules(), batch()
    made = engine(found, loss_fn=lambda out, target: out.sum().item())
    with pytest.raises(fp.FunpipeError, match="reads a tensor's value"):
        made.step(Call((x,), target=y))
    assert found[1][0].kept is None
    assert made.step(Call((x,)), training=False).shape == (8, 3)
