import torch
import torch.nn.functional as F
from torch import nn

from funpipe.functional import Out, functionalize
from funpipe.schedules import GPipe
from funpipe.stages import partition
from funpipe.tracing import trace
from funpipe.tracing.operators import mutates
from tests.running import eager, run_programs

X = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def assert_like_eager(loss, params, batch, buffers, count=2):
    part = batch[: len(batch) // count]
    traced = trace(loss, params, part, buffers=buffers)
    assert not any(mutates(n) for n in traced.graph.nodes)
    found = run_programs(traced, partition(traced, ()), GPipe().table(1, count), params, batch, buffers=buffers)
    wanted = eager(loss, params, batch, count, buffers=buffers)
    torch.testing.assert_close(found.loss, wanted.loss)
    torch.testing.assert_close(found.grads, wanted.grads)
    torch.testing.assert_close(dict(buffers or {}) | found.buffers, wanted.buffers)


def convolutional(training=True, **options):
    torch.manual_seed(0)
    modules = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, **options), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36, 2)
    apply, params, buffers = functionalize(nn.Sequential(*modules).train(training))

    def loss(p, x, *, buffers):
        out, buffers = apply(p, buffers, x)
        return Out(out.square().mean(), buffers=buffers)

    return loss, params, buffers


def test_batch_norm_updates_its_statistics_from_microbatch_to_microbatch():
    loss, params, buffers = convolutional()
    assert_like_eager(loss, params, X, buffers)


def test_batch_norm_in_evaluation_reads_them():
    loss, params, buffers = convolutional(training=False)
    assert_like_eager(loss, params, X, buffers)


def test_batch_norm_without_statistics():
    loss, params, buffers = convolutional(track_running_stats=False)
    assert buffers == {}
    assert_like_eager(loss, params, X, buffers)


def test_writes_in_place_to_values_and_their_views():
    def loss(p, x):
        h = x.flatten(1) @ p["w"]
        h[:, 0].mul_(2)
        h = F.relu(h + 1, inplace=True) * 2
        h[:, 1:] += p["b"]
        return h.square().sum()

    params = {"w": torch.randn(75, 4), "b": torch.randn(3)}
    assert_like_eager(loss, params, X, None)


def test_paths_and_lines_survive():
    loss, params, buffers = convolutional()
    traced = trace(loss, params, X, buffers=buffers)
    (norm,) = [n for n in traced.forward if "batch_norm" in str(n.target)]
    assert norm.meta["path"] == "1"
    assert norm.meta["source"].startswith(__file__)
    assert [n.meta["path"] for n in traced.forward if "relu" in str(n.target)] == ["2"]
