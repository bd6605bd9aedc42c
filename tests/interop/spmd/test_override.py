"""Submodules that cannot be traced: an operator stands for them in the graph, until `transform` puts in what runs."""

import torch
from torch import Tensor, nn

from funpipe.interop.spmd.api import Override, compile
from tests.interop.spmd.models import adam, batches, same, train_step, twins


class Decides(nn.Module):
    """Its course depends on values."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x * 3


@torch.library.custom_op("funpipe_tests::decide", mutates_args=())
def decide(x: Tensor) -> Tensor:
    """Stands for `Decides`; never runs."""
    raise NotImplementedError


@torch.library.custom_op("funpipe_tests::decide_backward", mutates_args=())
def decide_backward(gradient: Tensor, x: Tensor) -> Tensor:
    """Stands for its backward; never runs."""
    raise NotImplementedError


decide.register_fake(torch.empty_like)
decide_backward.register_fake(lambda gradient, x: torch.empty_like(gradient))
decide.register_autograd(
    lambda ctx, gradient: decide_backward(gradient, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)
FORWARD, BACKWARD = torch.ops.funpipe_tests.decide.default, torch.ops.funpipe_tests.decide_backward.default


def run_forward(x: Tensor) -> Tensor:
    return x * 2 if x.sum() > 0 else x * 3


def run_backward(gradient: Tensor, x: Tensor) -> Tensor:
    return gradient * 2 if x.sum() > 0 else gradient * 3


class StandIn(nn.Module):
    """Calls the operator."""

    def forward(self, x: Tensor) -> Tensor:
        return decide(x)


class Decide(Override):
    """Puts what runs into the graph."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def replacement(self, fqn: str, orig_submodule: nn.Module) -> nn.Module:
        return StandIn() if isinstance(orig_submodule, Decides) else orig_submodule

    def transform(self, gm: torch.fx.GraphModule, flat_state: list[Tensor]) -> torch.fx.GraphModule:
        for node in gm.graph.nodes:
            if node.target in (FORWARD, BACKWARD):
                self.seen.append(node.target)
                node.target = run_forward if node.target is FORWARD else run_backward
        gm.recompile()
        return gm


def test_a_module_that_decides_by_values():
    override, model = Decide(), nn.Sequential(nn.Linear(8, 8), Decides(), nn.Linear(8, 8))
    (mine, optimizer), (its, other) = twins(adam(fused=True), model)
    step = compile(module_override=[override])(train_step)
    for sign, x in zip((1, -1, 1), batches(3), strict=True):
        step(mine, optimizer, sign * x.abs())
        train_step(its, other, sign * x.abs())
    assert same(mine, its)
    assert override.seen == [FORWARD, BACKWARD]


def test_several_modules_of_one_kind():
    override = Decide()
    model = nn.ModuleDict({"body": nn.Sequential(nn.Linear(8, 8), Decides()), "head": nn.Sequential(Decides())})

    def step(model, optimizer, x):
        model["head"](model["body"](x)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    (mine, optimizer), (its, other) = twins(adam(fused=True), model)
    compiled = compile(module_override=[override])(step)
    for x in batches(2):
        compiled(mine, optimizer, x)
        step(its, other, x)
    assert same(mine, its)
    assert override.seen == [FORWARD, FORWARD, BACKWARD, BACKWARD]


def test_the_model_keeps_its_modules():
    (model, optimizer), _ = twins(adam(fused=True), nn.Sequential(nn.Linear(8, 8), Decides()))
    before = list(model.modules())
    step = compile(module_override=[Decide()])(train_step)
    for x in batches(2):
        step(model, optimizer, x)
        assert list(model.modules()) == before


class Scaled(Override):
    """Adds a tensor that the graph multiplies the batch with."""

    def __init__(self, scale: Tensor) -> None:
        self.scale = scale

    def replacement(self, fqn: str, orig_submodule: nn.Module) -> nn.Module:
        return orig_submodule

    def transform(self, gm: torch.fx.GraphModule, flat_state: list[Tensor]) -> torch.fx.GraphModule:
        inputs = gm.graph.find_nodes(op="placeholder")
        batch = inputs[-1]
        with gm.graph.inserting_before(inputs[1]):
            scale = gm.graph.placeholder("scale")
        with gm.graph.inserting_after(batch):
            scaled = gm.graph.call_function(torch.ops.aten.mul.Tensor, (batch, scale))
        batch.replace_all_uses_with(scaled, delete_user_cb=lambda user: user is not scaled)
        flat_state.insert(1, self.scale)
        gm.recompile()
        return gm


def test_an_override_adds_a_tensor():
    (mine, optimizer), (its, other) = twins(lambda params: torch.optim.SGD(params, lr=0.1))
    scale = torch.tensor(2.0)
    step = compile(module_override=[Scaled(scale)])(train_step)
    for factor, x in zip((2.0, 3.0), batches(2), strict=True):
        scale.fill_(factor)
        step(mine, optimizer, x)
        train_step(its, other, factor * x)
    assert same(mine, its)


class Widened(Override):
    """A replacement with parameters of its own."""

    def __init__(self) -> None:
        self.made = nn.Linear(8, 8)

    def replacement(self, fqn: str, orig_submodule: nn.Module) -> nn.Module:
        return self.made if fqn == "1" else orig_submodule

    def transform(self, gm: torch.fx.GraphModule, flat_state: list[Tensor]) -> torch.fx.GraphModule:
        return gm


def test_parameters_of_a_replacement_are_read():
    override = Widened()
    model, x = nn.Sequential(nn.Linear(8, 8), nn.Identity()), batches(1)[0]
    step = compile(module_override=[override])(lambda model, x: model(x))
    for _ in range(2):
        assert torch.equal(step(model, x), override.made(model[0](x)))
        with torch.no_grad():
            override.made.bias.add_(1)
