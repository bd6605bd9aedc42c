"""A backward in two parts gives what the whole one gives, and computes nothing twice."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from funpipe.interop.pipelining._backward import stage_backward, stage_backward_input, stage_backward_weight
from funpipe.interop.pipelining.errors import PipeRuntimeError


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 6, bias=False)
        self.scale = nn.Parameter(torch.ones(6))
        self.unused = nn.Linear(6, 6)

    def forward(self, x):
        x = x + self.b(torch.relu(self.a(self.norm(x)))) * self.scale
        return x.view(2, 3, 6).transpose(0, 1), self.scale * 2


class Tied(nn.Module):
    """A weight used three times: twice below one another, and once beside."""

    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 6)

    def forward(self, x):
        return self.v(torch.tanh(x @ self.w) @ self.w) + x @ self.w


class Parallel(nn.Module):
    """One weight, used twice side by side, through a chain of its own."""

    def __init__(self):
        super().__init__()
        self.w, self.g = nn.Parameter(torch.randn(6, 6)), nn.Parameter(torch.randn(6))

    def forward(self, x):
        weight = self.w.t() * self.g
        return (torch.sin(x) @ weight) + (torch.cos(x) @ weight.t()), self.g


class Crossed(nn.Module):
    """Two weights with a node in common that cannot be computed together: one is used above the other."""

    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(6, 6)), nn.Parameter(torch.randn(6, 6))

    def forward(self, x):
        return x @ self.v @ self.w + torch.sin(x) @ (self.w @ self.v)


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(1, 3, 3), nn.BatchNorm1d(3), nn.ReLU(inplace=True), nn.Conv1d(3, 2, 2))

    def forward(self, x):
        return self.layers(x.unsqueeze(1)).flatten(1)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w * 2

    @staticmethod
    def backward(ctx, gradient):
        x, w = ctx.saved_tensors
        return gradient * w * 2, (gradient * x * 2).sum(0)


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.w, self.last = nn.Linear(6, 6), nn.Parameter(torch.randn(6)), nn.Linear(6, 6)

    def forward(self, x):
        return self.last(Doubled.apply(self.first(x), self.w))


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))

    def forward(self, x):
        return torch.utils.checkpoint.checkpoint(self.layer, x, use_reentrant=False)


MODULES = [Residual, Tied, Parallel, Crossed, Images, Custom, Checkpointed]


def outputs_of(module, x):
    output = module(x)
    return list(output) if isinstance(output, tuple) else [output]


def gradients(module):
    return {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


def gradients_of(outputs):
    return [torch.linspace(-1, 1, o.numel()).view(o.shape) for o in outputs]


def in_two_parts(module, outputs, x, between=lambda: None):
    found, groups = stage_backward_input(outputs, gradients_of(outputs), [x, 3], module.parameters())
    between()
    stage_backward_weight(module.parameters(), groups)
    return found


def whole(module, outputs, x):
    return stage_backward(tuple(outputs), tuple(gradients_of(outputs)), [x, 3])


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("requires_grad", [True, False])
def test_two_parts_are_the_whole(module, requires_grad):
    torch.manual_seed(0)
    model, x = module(), torch.randn(6, 6, requires_grad=requires_grad)
    other, same_x = copy.deepcopy(model), x.detach().clone().requires_grad_(requires_grad)
    for _ in range(2):  # `.grad` accumulates
        found, expected = in_two_parts(model, outputs_of(model, x), x), whole(other, outputs_of(other, same_x), same_x)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(gradients(model), gradients(other))
        torch.testing.assert_close(x.grad, same_x.grad)


@pytest.mark.parametrize("module", [module for module in MODULES if module not in (Crossed, Checkpointed)])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_nothing_is_computed_twice(module, requires_grad):
    torch.manual_seed(0)
    counts = []
    for backward in (whole, in_two_parts):
        model, x = module(), torch.randn(6, 6, requires_grad=requires_grad)
        outputs = outputs_of(model, x)
        with FlopCounterMode(display=False) as counter:
            backward(model, outputs, x)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_the_first_part_leaves_the_weights_alone():
    model, x, seen = Residual(), torch.randn(6, 6, requires_grad=True), {}
    in_two_parts(model, outputs_of(model, x), x, lambda: seen.update(gradients(model)))
    assert len(seen) == 8 and set(seen.values()) == {None}


def test_without_inputs_the_first_part_still_does_the_layers_above_the_first():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), torch.randn(4, 8)
    output = model(x)
    with FlopCounterMode(display=False) as counter:
        found, groups = stage_backward_input([output], [torch.ones(4, 8)], [x], model.parameters())
    assert found == (None,)
    assert counter.get_total_flops() == 2 * (2 * 4 * 8 * 8)
    with FlopCounterMode(display=False) as counter:
        stage_backward_weight(model.parameters(), groups)
    assert counter.get_total_flops() == 3 * (2 * 4 * 8 * 8)


@pytest.mark.parametrize("requires_grad", [True, False])
def test_a_compiled_module(requires_grad):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    compiled, x = torch.compile(model, backend="aot_eager"), torch.randn(6, 6, requires_grad=requires_grad)
    other, same_x = copy.deepcopy(model), x.detach().clone().requires_grad_(requires_grad)
    found = in_two_parts(compiled, outputs_of(compiled, x), x)
    torch.testing.assert_close(found, whole(other, outputs_of(other, same_x), same_x))
    torch.testing.assert_close(gradients(model), gradients(other))


def test_a_function_of_the_users_own_runs_once(monkeypatch):
    calls, backward = [], Doubled.backward
    monkeypatch.setattr(Doubled, "backward", staticmethod(lambda *args: calls.append(args) or backward(*args)))
    model, x = Custom(), torch.randn(6, 6, requires_grad=True)
    in_two_parts(model, outputs_of(model, x), x)
    assert len(calls) == 1


def test_an_output_of_weights_alone_given_twice():
    w, x = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    y = w * 3
    _, groups = stage_backward_input([y, x * w, y], [torch.ones(2)] * 3, [x], iter([w]))
    assert stage_backward_weight(iter([w]), groups)[0].tolist() == [7, 7]


def test_gradients_that_are_one_tensor_to_autograd_are_two_to_the_user():
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    stage_backward_input([a + b], [torch.ones(2)], [a, b], iter(()))
    stage_backward([a * 1], [torch.ones(2)], [a])
    assert (a.grad.tolist(), b.grad.tolist()) == ([2, 2], [1, 1])


@st.composite
def programs(draw):
    """Random operators over an input, four weights and what was computed before."""
    size = draw(st.integers(1, 12))
    return [(draw(st.sampled_from("+*@tvsw")), draw(st.integers(0, 99)), draw(st.integers(0, 99))) for _ in range(size)]


OPERATORS = {
    "+": lambda a, b: a + b,
    "*": lambda a, b: a * b,
    "@": lambda a, b: a @ b / 3,
    "t": lambda a, b: a.t(),
    "v": lambda a, b: a.view(9).view(3, 3),
    "s": lambda a, b: torch.sin(a),
    "w": lambda a, b: Doubled.apply(a, b[0]),
}


class Random(nn.Module):
    def __init__(self, program, num_outputs):
        super().__init__()
        self.program, self.num_outputs = program, num_outputs
        self.weights = nn.ParameterList([torch.randn(3, 3) for _ in range(4)])

    def forward(self, x):
        values = [x, *self.weights]
        for operator, a, b in self.program:
            values.append(OPERATORS[operator](values[a % len(values)].contiguous(), values[b % len(values)]))
        return tuple(values[-self.num_outputs :])


@given(program=programs(), num_outputs=st.integers(1, 4), requires_grad=st.booleans(), chosen=st.integers(0, 15))
@settings(max_examples=150)
def test_any_graph(program, num_outputs, requires_grad, chosen):
    """Any weights may be left out."""
    torch.manual_seed(0)
    model, x = Random(program, num_outputs).double(), torch.randn(3, 3, dtype=torch.double, requires_grad=requires_grad)
    outputs = model(x)
    if all(o.grad_fn is None and not o.is_leaf for o in outputs):
        return
    given_gradients = [torch.randn(3, 3, dtype=torch.double) for _ in outputs]
    weights = [weight for i, weight in enumerate(model.weights) if chosen >> i & 1]
    found, groups = stage_backward_input(list(outputs), given_gradients, [x], iter(weights))
    stage_backward_weight(iter(weights), groups)
    in_parts = [weight.grad for weight in weights]
    model.zero_grad()
    of_x = x.grad
    x.grad = None
    expected = stage_backward(model(x), tuple(given_gradients), [x])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(of_x, x.grad)
    torch.testing.assert_close(in_parts, [weight.grad for weight in weights])


def test_nested_outputs_and_outputs_that_nothing_reads():
    x = torch.ones(2, requires_grad=True)
    output = {"b": [x * 2, 7], "a": x * 3, "c": torch.ones(2)}
    assert stage_backward(output, (None, torch.ones(2), torch.ones(2)), [x, None])[0].tolist() == [2, 2]
    found, _ = stage_backward_input({"b": x * 2, "a": (x * 3,)}, (torch.ones(2), None), [x], iter(()))
    assert found[0].tolist() == [3, 3]


def test_only_the_outputs_named_by_index():
    x = torch.ones(2, requires_grad=True)
    assert stage_backward((x * 2, x * 3), (torch.ones(2), torch.ones(2)), [x], [1])[0].tolist() == [3, 3]


def test_an_input_cut_out_of_a_leaf_fills_the_leaf():
    x, w = torch.ones(4, requires_grad=True), torch.ones(2, requires_grad=True)
    for chunk in x.tensor_split(2):
        found, groups = stage_backward_input([chunk * w * 3], [torch.ones(2)], [chunk], iter([w]))
        stage_backward_weight(iter([w]), groups)
    assert (found[0].tolist(), x.grad.tolist(), w.grad.tolist()) == ([3, 3], [3, 3, 3, 3], [6, 6])


def test_an_integer_output_and_an_unused_input():
    x, y = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    assert stage_backward((x.argmax(), x * 2), (None, torch.ones(2)), [x, y])[1] is None
    found, _ = stage_backward_input((x.argmax(), x * 2), (None, torch.ones(2)), [x, y], iter(()))
    assert found[1] is None


@pytest.mark.parametrize("backward", [stage_backward, lambda o, g, i: stage_backward_input(o, g, i, iter(()))])
def test_a_gradient_of_another_shape(backward):
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(
        PipeRuntimeError, match=r"(?s)Failed to run stage backward.*Size\(\[3\]\).*needs its output's shape"
    ):
        backward((x * 2,), (torch.ones(3),), [x])


def test_another_number_of_gradients():
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="2 gradients for 1 outputs"):
        stage_backward((x * 2,), (None, None), [x])
