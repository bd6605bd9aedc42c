import pytest
import torch
from torch import nn
from torch.nn import functional as F

from funpipe._errors import TraceError
from funpipe.tracing import imperative_graph
from funpipe.tracing.operators import mutates


def names(module):
    return [node.name for node in module.graph.nodes if node.op == "call_function"]


def test_what_is_written_is_returned_and_nothing_is_written():
    def step(x, y):
        x.add_(1)
        y[0].copy_(x[1])
        return [x, y]

    x, y = torch.zeros(2), torch.zeros(2)
    module = imperative_graph(step, [x, y])
    assert [t.tolist() for t in module(x, y)] == [[1, 1], [1, 0]]
    assert x.tolist() == y.tolist() == [0, 0]
    assert not any(mutates(node) for node in module.graph.nodes)


def test_backward_and_an_optimizer_in_one_graph():
    weight = nn.Parameter(torch.ones(3))

    def step(weight, x):
        optimizer = torch.optim.SGD([weight], lr=0.5)
        (weight * x).sum().backward()
        optimizer.step()
        return [weight.detach()]

    module = imperative_graph(step, [weight, torch.ones(3)])
    assert module(weight.detach(), torch.tensor([1.0, 2.0, 3.0]))[0].tolist() == [0.5, 0.0, -0.5]
    assert weight.tolist() == [1, 1, 1]
    assert weight.grad is None
    assert not any("record_function" in name for name in names(module))


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_fused_updates_are_functional_operators(name, as_tensor):
    options = {"weight_decay": 0.1, "maximize": False}
    if name == "sgd":
        options |= {"momentum": 0.9, "dampening": 0.0, "nesterov": False, "is_first_step": False}
    else:
        options |= {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "amsgrad": False}

    def step(param, gradient, one, two, count, rate):
        slots = [[one]] if name == "sgd" else [[one], [two], [], [count]]
        update = getattr(torch, f"_fused_{name}_")
        update([param], [gradient], *slots, lr=rate if as_tensor else 0.1, **options)
        return [param, one, two]

    def inputs():
        generator = torch.Generator().manual_seed(0)
        made = [torch.rand(5, generator=generator) for _ in range(4)]
        return [*made, torch.tensor(2.0), torch.tensor(0.1, dtype=torch.float64)]

    module = imperative_graph(step, inputs())
    assert f"_fused_{name}" in names(module)
    for mine, its in zip(module(*inputs()), step(*inputs()), strict=True):
        assert torch.equal(mine, its)


def test_numbers_read_from_inputs_are_read_again_at_every_call():
    module = imperative_graph(lambda x, rate: [x * (1 - 0.5 ** rate.item())], [torch.ones(1), torch.tensor(1.0)])
    assert module(torch.ones(1), torch.tensor(2.0))[0].item() == 0.75


def test_tensors_made_of_numbers_are_the_last_inputs():
    module = imperative_graph(lambda x: [x + torch.tensor([1.0, 2.0]), x * torch.tensor(3.0)], [torch.ones(2)])
    constants = module.meta["constants"]
    assert [c.tolist() for c in constants] == [[1, 2], 3]
    assert [t.tolist() for t in module(torch.ones(2), *constants)] == [[2, 3], [3, 3]]
    assert not module.graph.find_nodes(op="get_attr")


def test_every_node_has_its_type():
    module = imperative_graph(lambda x: [F.relu(x @ x)], [torch.ones(2, 2)])
    assert all(node.meta["val"].shape == (2, 2) for node in module.graph.nodes if node.op != "output")


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (lambda x: [x + 1 if x.sum() > 0 else x], "decides something by the value of a tensor"),
        (lambda x: [x + OUTSIDE], "uses a tensor that it was not given"),
    ],
)
def test_what_no_graph_can_hold(step, text):
    with pytest.raises(TraceError, match=text):
        imperative_graph(step, [torch.ones(2)])


OUTSIDE = torch.ones(2)


def test_other_errors_come_through():
    def step(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        imperative_graph(step, [torch.ones(1)])
