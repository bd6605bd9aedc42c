"""What the original did wrongly without a word, or with one that helps nobody."""

import re

import pytest
import torch
from torch import nn

from funpipe import FunpipeError
from funpipe.interop.spmd.api import Override, compile
from funpipe.interop.spmd.errors import SpmdAssertionError, SpmdNotImplementedError, SpmdRuntimeError, SpmdTypeError
from tests.interop.spmd.models import Layers, adam, batches, same, train_step, twins

ADAM = adam()


def raises(kind, text, step=train_step, make=ADAM, arguments=None, **options):
    """Asserts that a call is refused, and that it leaves everything as it was."""
    (model, optimizer), (untouched, _) = twins(make)
    group = {**optimizer.param_groups[0]}
    with pytest.raises(kind, match=re.escape(text)) as caught:
        compile(**options)(step)(*(arguments or (lambda m, o: (m, o, batches(1)[0])))(model, optimizer))
    assert isinstance(caught.value, FunpipeError)
    assert same(model, untouched)
    assert {**optimizer.param_groups[0]} == group


def test_two_models():
    raises(AssertionError, "Only support single nn.Module for now", arguments=lambda m, o: (m, o, Layers()))


def test_two_optimizers():
    raises(
        AssertionError, "Only support single Optimizer for now", arguments=lambda m, o: (m, o, adam()(m.parameters()))
    )


def test_no_model():
    raises(AssertionError, "Couldn't find nn.Module instances from the arguments.", arguments=lambda m, o: (o, 1))


@pytest.mark.parametrize("kind", [torch.optim.Adagrad, torch.optim.Rprop, torch.optim.LBFGS])
def test_another_optimizer(kind):
    text = f"{kind.__name__} cannot be compiled; use one of Adam, AdamW, SGD of torch.optim."
    raises(SpmdNotImplementedError, text, make=kind)


def test_an_optimizer_of_other_parameters():
    def arguments(model, optimizer):
        return model, adam()(Layers().parameters()), batches(1)[0]

    raises(FunpipeError, "has 4 parameters that are none of the model's: make the optimizer of", arguments=arguments)


def test_a_differentiable_optimizer():
    raises(SpmdNotImplementedError, "differentiable=True; make the optimizer without", make=adam(differentiable=True))


def test_a_beta_that_is_a_tensor():
    def make(params):
        optimizer = torch.optim.SGD(params, lr=0.1)
        optimizer.param_groups[0]["weight_decay"] = torch.tensor(0.1)
        return optimizer

    raises(SpmdTypeError, "weight_decay of group 0 is a tensor; only the learning rate may be", make=make)


def test_the_first_step_with_dampening():
    def make(params):
        return torch.optim.SGD(params, lr=0.1, momentum=0.9, dampening=0.5)

    raises(SpmdRuntimeError, "SGD with dampening=0.5 does not dampen its first step", make=make)


def test_dampening_after_an_eager_step():
    def make(params):
        return torch.optim.SGD(params, lr=0.1, momentum=0.9, dampening=0.5)

    (mine, optimizer), (its, other) = twins(make)
    step = compile()(train_step)
    train_step(mine, optimizer, batches(1)[0])
    train_step(its, other, batches(1)[0])
    for x in batches(2):
        step(mine, optimizer, x)
        train_step(its, other, x)
    assert same(mine, its)


def test_a_grad_scaler():
    text = "a GradScaler decides by the values of gradients whether a step is taken"
    raises(SpmdTypeError, text, arguments=lambda m, o: (m, o, torch.amp.GradScaler("cpu")))


def test_a_scheduler_as_an_argument():
    def arguments(model, optimizer):
        return model, optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)

    (model, optimizer), _ = twins(adam())
    with pytest.raises(SpmdTypeError, match="ConstantLR is no part of a step: call its step"):
        compile()(train_step)(*arguments(model, optimizer))


def test_a_step_that_changes_the_learning_rate():
    def step(model, optimizer, x):
        train_step(model, optimizer, x)
        optimizer.param_groups[0]["lr"] *= 0.5

    raises(FunpipeError, "the step changed lr of group 0 of the optimizer", step)


def test_a_step_that_adds_a_group():
    def step(model, optimizer, x):
        optimizer.add_param_group({"params": [torch.zeros(1)]})

    raises(FunpipeError, "the step added a group to the optimizer", step)


def test_a_decision_by_a_value():
    def step(model, optimizer, x):
        loss = model(x).sum()
        if loss > 0:
            loss.backward()

    raises(FunpipeError, "the step decides something by the value of a tensor", step)


def test_a_tensor_that_is_not_passed():
    weight = torch.ones(8)

    def step(model, optimizer, x):
        (model(x) * weight).sum().backward()

    raises(FunpipeError, "the step uses a tensor that it was not given", step)


def test_an_object_with_tensors_inside():
    class Batch:
        def __init__(self):
            self.x = torch.ones(4, 8)

    raises(SpmdTypeError, "an argument holds a Batch with tensors inside", arguments=lambda m, o: (m, o, Batch()))


def test_an_argument_that_requires_a_gradient():
    x = torch.ones(4, 8, requires_grad=True)
    raises(SpmdTypeError, "an argument requires a gradient", arguments=lambda m, o: (m, o, x))


def test_an_error_of_the_step_itself_comes_through():
    def step(model, optimizer, x):
        raise KeyError("mine")

    (model, optimizer), _ = twins(adam())
    with pytest.raises(KeyError, match="mine"):
        compile()(step)(model, optimizer, batches(1)[0])
    train_step(model, optimizer, batches(1)[0])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"module_override": [Layers]},
            "module_override has a type; give a list of instances of subclasses of Override",
        ),
        ({"gm_transformation": 3}, "gm_transformation is a int; pass a function of a graph module."),
        (
            {"parallel_mode": "replicate"},
            "parallel_mode is a str; give an instance of DataParallel or another ParallelMode",
        ),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(SpmdTypeError, match=re.escape(text)):
        compile(**options)


class Adds(Override):
    """Adds a placeholder and no tensor."""

    def replacement(self, fqn, orig_submodule):
        return orig_submodule

    def transform(self, gm, flat_state):
        first = gm.graph.find_nodes(op="placeholder")[0]
        with gm.graph.inserting_before(first):
            gm.graph.placeholder("added")
        gm.recompile()
        return gm


def test_a_placeholder_without_a_tensor():
    text = "the graph has 19 inputs after transform, and flat_state makes 18 of them: insert a tensor into flat_state"
    raises(FunpipeError, text, module_override=[Adds()])


class Loses(Adds):
    """Forgets to return the module."""

    def transform(self, gm, flat_state):
        return None


def test_a_transform_that_returns_nothing():
    raises(FunpipeError, "transform gave a NoneType and not a graph module", module_override=[Loses()])


def test_a_module_in_the_closure():
    criterion = nn.BCEWithLogitsLoss(weight=torch.ones(8))

    def step(model, optimizer, x):
        criterion(model(x), x).backward()

    raises(FunpipeError, "pass it as an argument, or register it as a buffer of the model", step)


def test_errors_are_of_the_types_that_the_original_raised():
    assert issubclass(SpmdAssertionError, AssertionError)
    assert issubclass(SpmdRuntimeError, RuntimeError)
    assert issubclass(SpmdTypeError, TypeError)
    assert issubclass(SpmdNotImplementedError, NotImplementedError)


def test_a_model_that_reduces_gradients_itself():
    model = Layers()
    wrapped = object.__new__(nn.parallel.DistributedDataParallel)  # made without a process group
    nn.Module.__init__(wrapped)
    wrapped.module = model
    with pytest.raises(SpmdTypeError, match="DistributedDataParallel reduces gradients itself.*pass model.module"):
        compile()(train_step)(wrapped, adam()(model.parameters()), batches(1)[0])


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_of_parameters(register):
    (model, optimizer), _ = twins(adam())
    step = compile()(train_step)
    step(model, optimizer, batches(1)[0])
    handle = getattr(model.mod[2].bias, register)(lambda _: None)
    with pytest.raises(FunpipeError, match="mod.2.bias has hooks, which a compiled step would not call: remove them"):
        step(model, optimizer, batches(1)[0])
    handle.remove()
    step(model, optimizer, batches(1)[0])


def test_sparse_gradients():
    model = nn.Embedding(4, 2, sparse=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(NotImplementedError, match="the gradient of weight is sparse.*sparse=False"):
        compile()(train_step)(model, optimizer, torch.tensor([1, 2]))


def test_a_transformation_that_returns_nothing():
    raises(SpmdTypeError, "gm_transformation gave a NoneType: return the graph module", gm_transformation=print)
