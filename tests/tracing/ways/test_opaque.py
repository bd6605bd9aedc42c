"""Modules that are called and not traced, inside of steps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import funpipe as fp
from funpipe._errors import TraceError
from funpipe.functional.objects import knowing
from tests.tracing.ways.hard_models import Branches, Counts, around

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
BACKENDS = ("interpret", "regions", "step")


class Model:
    """A module with its loss function and trees."""

    def __init__(self, inner):
        torch.manual_seed(0)
        self.module = around(inner())
        self.apply, self.params, self.buffers = fp.functionalize(self.module)

    def loss(self, params, x, *, buffers):
        out, new = self.apply(params, buffers, x)
        return fp.Out(out.square().mean(), buffers=new)

    def step(self, **settings):
        return fp.train_step(self.loss, fp.optim.sgd(0.01), num_microbatches=2, trace="modules", **settings)

    def init(self, step, x=X):
        return step.init(self.params, x, buffers=self.buffers)


@pytest.mark.parametrize(
    ("backend", "schedule"), [("interpret", "gpipe"), ("interpret", "1f1b"), ("regions", "1f1b"), ("step", "1f1b")]
)
def test_every_backend_trains_alike(backend, schedule):
    model = Model(Counts)
    reference = Model(Counts).module
    optimizer = torch.optim.SGD(reference.parameters(), 0.01)
    step = model.step(backend=backend, schedule=schedule, stages=fp.stages.split_at({"2": "beginning"}))
    state = model.init(step)
    for _ in range(2):
        state, metrics = step(state, X)
        loss = sum(reference(half).square().mean() for half in X.chunk(2)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.testing.assert_close(metrics["loss"], loss.detach())
    params, buffers = step.gather(state)
    assert buffers["1.count"] == 4
    for name, param in reference.named_parameters():
        torch.testing.assert_close(params[name], param.detach())


def test_two_stages_give_the_bits_of_one():
    model = Model(Branches)
    found = []
    for stages in (1, 2):
        step = model.step(backend="interpret", stages=stages)
        state, metrics = step(model.init(step), X)
        found.append((metrics["loss"], step.gather(state)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_evaluations_and_batches_of_other_sizes_call_it_too():
    model = Model(Branches)
    step = model.step(backend="interpret")
    state = model.init(step)
    evaluate = fp.eval_step(model.loss, like=step)
    for x in (X, X[:4]):
        with torch.no_grad():
            wanted = sum(model.module(half).square().mean() for half in x.chunk(2)) / 2
        torch.testing.assert_close(evaluate(state, x)["loss"], wanted)


def test_the_step_as_a_graph_carries_it():
    model = Model(Branches)
    step = model.step(backend="interpret")
    state, wanted = step(model.init(step), X)
    compiled = fp.compile_step(step.as_graph(), backend="interpret")
    _, aux = compiled(step.values_of(model.init(step)), X)
    assert torch.equal(step.metrics_of(aux)["loss"], wanted["loss"])


class Widens(nn.Module):
    """Returns more columns for larger numbers, all of the same sum."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        h = self.linear(x)
        return F.pad(h, (0, 6 if x.abs().max() > 1e3 else 0))


class SumsUp(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Widens()

    def forward(self, x):
        return self.inner(x).sum(1, keepdim=True).expand(-1, 6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_shape_at_run_time_is_an_error_that_names_the_module(backend):
    model = Model(SumsUp)
    step = model.step(backend=backend)
    state, _ = step(model.init(step), X)
    with pytest.raises(TraceError, match=r"1.inner \(Widens\).* returned float32\[4,12\] instead of float32\[4,6\]"):
        step(state, 1e6 * X)
    with pytest.raises(fp.FunpipeError, match="raised or was interrupted"):
        step(state, X)


class Drops(Branches):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5)


@pytest.mark.parametrize(
    "settings", [{"stages": 2}, pytest.param({"backend": "step"}, marks=pytest.mark.full)], ids=str
)
def test_dropout_in_it_is_a_function_of_the_key(settings):
    model = Model(Drops)

    def losses(key, **settings):
        step = model.step(key=key, **{"backend": "interpret", **settings})
        state, found = model.init(step), []
        for _ in range(3):
            state, metrics = step(state, X)
            found.append(metrics["loss"])
        return torch.stack(found)

    torch.testing.assert_close(losses(0, **settings), losses(0))
    assert not torch.allclose(losses(1), losses(0))


def test_its_backward_sees_the_same_dropout():
    model = Model(Drops)
    step = fp.value_and_grad(model.loss, backend="interpret", trace="modules")
    name, key = "1.linear.weight", 3
    _, grads = step(model.params, X, model.buffers, key=key)
    direction = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))

    def loss(distance):
        moved = model.params | {name: model.params[name] + distance * direction}
        return step(moved, X, model.buffers, key=key)[0]

    torch.testing.assert_close((loss(1e-2) - loss(-1e-2)) / 2e-2, (grads[name] * direction).sum(), rtol=1e-2, atol=1e-4)


def test_an_evaluation_switches_its_dropout_off():
    model = Model(Drops)
    step = model.step(key=0, backend="interpret")
    state = model.init(step)
    first, second = (fp.eval_step(model.loss, like=step)(state, X)["loss"] for _ in range(2))
    assert torch.equal(first, second)
    model.module.eval()
    model.module[1].__class__ = Branches
    with torch.no_grad():
        torch.testing.assert_close(first, model.module(X).square().mean())


class WritesItsArgument(Branches):
    def forward(self, x):
        return super().forward(x.add_(1))


def test_a_module_that_writes_to_its_argument_is_called_with_the_one_around_it():
    model = Model(WritesItsArgument)
    traced = fp.trace(model.loss, model.params, X, buffers=model.buffers, way="modules")
    assert traced.opaque == ("",)
    (_, tried, worked) = traced.attempts
    assert "the module 1 (WritesItsArgument)" in tried.why and "writes in place to a parameter or" in tried.why
    assert worked.as_text() == "modules of the model: works"


def test_writing_to_the_batch_is_refused():
    apply, params, _ = fp.functionalize(WritesItsArgument())
    with pytest.raises(TraceError, match=r"modules of the model: .* writes in place to a parameter or to a tensor tha"):
        fp.trace(lambda p, x: apply(p, {}, x)[0].sum(), params, X.clone(), way="modules")


def test_the_mode_is_that_of_the_trace():
    class ByMode(Branches):
        def forward(self, x):
            return super().forward(x) * (2 if self.training else 1)

    model = Model(ByMode)
    step = model.step(backend="interpret")
    state = model.init(step)
    with torch.no_grad():
        wanted = sum(model.module(half).square().mean() for half in X.chunk(2)) / 2
    model.module.eval()
    torch.testing.assert_close(step(state, X)[1]["loss"], wanted)
    assert not model.module[1].training


def test_unused_parameters_have_zeros_for_gradients():
    class Spare(Branches):
        def __init__(self):
            super().__init__()
            self.spare = nn.Parameter(torch.ones(2))

    model = Model(Spare)
    _, grads = fp.value_and_grad(model.loss, backend="interpret")(model.params, X, model.buffers)
    assert torch.equal(grads["1.spare"], torch.zeros(2))


def test_a_traced_graph_runs_where_its_objects_are_known():
    model = Model(Branches)
    traced = fp.trace(lambda p, x: model.apply(p, {}, x)[0].sum(), model.params, X, way="modules")
    programs = fp.programs.lower(traced, fp.stages.partition(traced, ()), fp.schedules.GPipe().table(1, 1))
    assert programs.objects == traced.objects
    (name,) = traced.objects
    with knowing(traced.objects):
        results = torch.ops.funpipe_opaque.call([*_leaves(model), X], name, "float32[8,6]")
    torch.testing.assert_close(results[0], model.module[1](X).detach())


def _leaves(model):
    return [model.params[f"1.linear.{name}"] for name in dict(model.module[1].linear.named_parameters())]


def test_a_cuda_graph_does_not_go_together_with_it():
    model = Model(Branches)
    step = model.step(cuda_graph=True)
    state = model.init(step)
    with pytest.raises(
        fp.FunpipeError, match="cuda_graph=True, but the module '1' could not be traced and is called in"
    ):
        step(state, X)


def test_autocast_is_that_of_the_trace():
    model = Model(Branches)

    def loss(params, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model.apply(params, {}, x)[0].float().square().mean()

    found, grads = fp.value_and_grad(loss, backend="interpret", trace="modules")(model.params, X)
    wanted = loss(dict(model.module.named_parameters()), X)
    wanted.backward()
    assert torch.equal(found, wanted.detach())
    torch.testing.assert_close(grads["1.linear.weight"], model.module[1].linear.weight.grad)


class Normalizes(nn.Module):
    """Branches on its input; `batch_norm` and `.data` write to buffers without a word to autograd."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        out = self.norm(x)
        self.mean.data.copy_(x.detach().mean(0))
        return out if x.sum() > 1e9 else out.relu()


@pytest.mark.parametrize("inner", [Normalizes, lambda: nn.BatchNorm1d(6, momentum=None)])
def test_what_is_written_to_buffers_in_silence_comes_back(inner):
    model = Model(inner)
    reference = Model(inner).module
    step = model.step(backend="interpret")
    state = model.init(step)
    assert step.lowered.origin.traced.opaque == ("1",)
    state, _ = step(state, X)
    for half in X.chunk(2):
        reference(half)
    for name, buffer in step.gather(state)[1].items():
        torch.testing.assert_close(buffer, reference.get_buffer(name))


class Clips(nn.Module):
    """Writes to its parameter in silence."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((6,), 2.0))

    def forward(self, x):
        self.weight.data.clamp_(-1, 1)
        return x * self.weight if x.sum() > 1e9 else x * self.weight.relu()


def test_writing_to_a_parameter_in_silence_is_an_error():
    model = Model(Clips)
    with pytest.raises(TraceError, match="writes in place to a parameter"):
        model.init(model.step())
