"""A step with an optimizer updates the parameters that the modules have."""

import pytest
import torch
from torch import nn

import funpipe as fp
from funpipe.interop.pipelining.engine import Call
from tests.interop.pipelining.engine.pipelines import WIDTH, batch, eager, engine


def started():
    module, (x, y) = nn.Linear(WIDTH, 3), batch()
    made = engine([module], optimizer=fp.optim.sgd(0.1))
    made.step(Call((x,), target=y))
    return module, made, x, y


def data(module, value):
    module.weight.data = value


def parameter(module, value):
    module.weight = nn.Parameter(value)


def loaded(module, value):
    module.load_state_dict({"weight": value, "bias": module.bias.detach().clone()})


@pytest.mark.parametrize("put", [data, parameter, loaded])
def test_values_from_outside_are_the_ones_that_are_updated(put):
    module, made, x, y = started()
    put(module, torch.full((3, WIDTH), 0.2))
    plain = nn.Linear(WIDTH, 3)
    plain.load_state_dict(module.state_dict())
    for _ in range(2):
        made.step(Call((x,), target=y))
        plain.zero_grad()
        eager([plain], x, y)
        torch.optim.SGD(plain.parameters(), 0.1).step()
    torch.testing.assert_close(module.state_dict(), plain.state_dict())


def frozen(module):
    module.weight.requires_grad_(False)


def doubled(module):
    module.double()


@pytest.mark.parametrize("change", [frozen, doubled])
def test_other_trained_parameters_are_an_error(change):
    module, made, x, y = started()
    change(module)
    with pytest.raises(NotImplementedError, match="'weight' of stage 0 was frozen, freed, or given another shape"):
        made.step(Call((x.to(module.weight.dtype),), target=y))
