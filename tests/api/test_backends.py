"""The backends do the same; each test here compiles, because what the compiler makes of a step is the question."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import funpipe as fp
from tests.api.models import (
    batch_of,
    batches,
    largest_error,
    largest_loss_error,
    params_of,
    same_bits,
    step_of,
    trained,
)

NAMES = {
    "interpret": {"backend": "interpret"},
    "regions": {"backend": "regions"},
    "1f1b": {"backend": "step", "schedule": "1f1b"},
    "gpipe": {"backend": "step", "schedule": "gpipe"},
    "fast": {"backend": "step", "numerics": "fast"},
}


@pytest.fixture(scope="module")
def found():
    """The losses and the parameters after three steps of each."""
    results = {}
    for name, options in NAMES.items():
        step = step_of(num_microbatches=2, **options)
        state, losses = trained(step, params_of(), batches(3))
        results[name] = losses, step.gather(state)[0]
    return results


def test_schedules_give_the_same_bits_in_the_compiled_step(found):
    assert same_bits(found["gpipe"], found["1f1b"])


@pytest.mark.parametrize("name", ["regions", "1f1b", "gpipe", "fast"])
def test_a_compiled_backend_is_close_to_the_interpreter(found, name):
    losses, params = found[name]
    assert largest_loss_error(losses, found["interpret"][0]) < 1e-6
    assert largest_error(params, found["interpret"][1]) < 1e-5


class Everything(nn.Module):
    """Tied words, a frozen and an unused leaf, batch normalization, a buffer that nothing reads."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.first = nn.Embedding(7, 4), nn.Linear(4, 4)
        self.norm, self.second = nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.words.weight
        self.frozen = nn.Parameter(torch.randn(4), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))
        self.register_buffer("unread", torch.ones(2))

    def forward(self, ids, scale):
        h = self.norm(torch.tanh(self.first(self.words(ids) * scale))) * self.frozen
        return self.head(torch.tanh(self.second(fp.mark_stage_end(h))))


def everything(backend):
    """Every kind of leaf and result in one step: its metrics and trees after three steps."""
    apply, params, buffers = fp.functionalize(Everything())
    params = {"model": params, "more": [torch.tensor([1, 2, 3]), (torch.full((4,), 0.5),)]}
    closed_over = torch.arange(7.0) / 7

    def loss(params, batch, *, buffers):
        out, buffers = apply(params["model"], buffers, batch["ids"][0], batch["scale"])
        out = out + closed_over * params["more"][0].sum() * params["more"][1][0].sum()
        found, seen = F.cross_entropy(out, batch["y"]), out.detach()
        aux = {"mean": fp.mean(seen.mean()), "sum": fp.sum(batch["y"].sum()), "max": fp.max(seen.amax(0))}
        aux |= {"cat": fp.cat(batch["y"]), "last": fp.last(params["model"]["first.weight"])}
        return fp.Out(fp.Weighted(found * 3, found.new_tensor(3.0)), aux=aux, buffers=buffers)

    optimizer = fp.optim.chain(fp.optim.clip_by_global_norm(1.0), fp.optim.sgd(0.05, momentum=0.9))
    spec = {"ids": 1, "y": 0, "scale": None}
    step = step_of(loss, optimizer, num_microbatches=2, batch_spec=spec, backend=backend)
    ids = torch.arange(16).reshape(2, 8) % 7
    data = [{"ids": ids + 0 * i, "y": (ids[0] + i) % 7, "scale": torch.full((4,), 1.0 + i)} for i in range(3)]
    state, found = step.init(params, data[0], buffers=buffers), []
    for batch in data:
        state, metrics = step(state, batch)
        found.append(dict(metrics))
    return found, step.gather(state)


def test_every_kind_of_leaf_and_result_is_compiled_as_it_is_interpreted():
    wanted, trees = everything("interpret")
    metrics, found = everything("step")
    torch.testing.assert_close(metrics, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found, trees, rtol=1e-4, atol=1e-6)


def test_a_compiled_step_overwrites_its_state_and_nothing_else():
    """Compiles: in-place updates are the compiler's business."""
    params, step = params_of(), step_of(num_microbatches=1, stages=1, backend="step", optimizer=fp.optim.sgd(0.1))
    state = step.init(params, batch_of())
    memory = {n: t.data_ptr() for n, t in state.values.items() if n.startswith("bucket.")}
    gathered, batch = step.gather(state)[0], batch_of()
    state, _ = step(state, batch)
    assert {n: state.values[n].data_ptr() for n in memory} == memory
    assert same_bits(params, params_of())
    assert same_bits(gathered, params_of())
    assert same_bits(batch, batch_of())
    assert not same_bits(step.gather(state)[0], gathered)


def test_an_evaluation_and_gradients_are_compiled_as_they_are_interpreted():
    """Compiles the forward alone, and a step without an update."""

    def loss(params, batch):
        return (fp.mark_stage_end(batch["x"] @ params["w"]).tanh() @ params["v"] - batch["y"]).square().mean()

    params = {"w": torch.ones(5, 3) / 5, "v": torch.ones(3, 2) / 3}
    wanted_grads, wanted = torch.func.grad_and_value(loss)(params, batch_of())
    step = step_of(loss, num_microbatches=2, backend="step")
    state = step.init(params, batch_of())
    torch.testing.assert_close(fp.eval_step(loss, like=step)(state, batch_of())["loss"], wanted)
    found, grads = fp.value_and_grad(loss, num_microbatches=2, backend="step")(params, batch_of())
    torch.testing.assert_close((found, grads), (wanted, wanted_grads))
    torch.testing.assert_close(step.gather(state)[0], params)
