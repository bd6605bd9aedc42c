import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import funpipe as fp
from funpipe import passes

X = torch.ones(4, 8)
MODEL = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8))
APPLY, PARAMS, _ = fp.functionalize(MODEL)


def step(state, batch):
    gradient = torch.func.grad(lambda p: APPLY(p, {}, batch)[0].square().mean())(state)
    return {name: leaf - 0.1 * gradient[name] for name, leaf in state.items()}, {}


def labels(backend, **options):
    traced = fp.trace_step(step, PARAMS, X)
    compiled = fp.compile_step(traced, backend=backend, **options)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        compiled(PARAMS, X)
    return [event.key for event in found.key_averages() if event.key.startswith("funpipe ")]


# One small compile: what a segment is called shows in the compiled step alone.
def test_a_segment_is_called_by_the_modules_it_comes_from():
    assert any("0 … 2" in label or "0" in label for label in labels("step", spans=True))


def test_the_interpreter_has_a_span_for_each_operator():
    assert "funpipe tanh (aten.tanh.default" in " ".join(labels("interpret", spans=True))


@pytest.mark.parametrize("backend", ["interpret"])
def test_without_asking_there_are_none(backend):
    assert labels(backend) == []


def test_communication_is_a_span_with_its_axis():
    from funpipe.backends.spans import SpannedCommunicator
    from funpipe.runtime.communicator import TransportCommunicator

    with profile(activities=[ProfilerActivity.CPU]) as found:
        alone = SpannedCommunicator(TransportCommunicator())
        assert alone.wait(alone.all_reduce(X, "sum", "dp")).equal(X)
    assert {"funpipe all_reduce dp", "funpipe wait"} <= {event.key for event in found.key_averages()}


def test_what_a_pass_made_says_so():
    traced = fp.trace_step(
        lambda s, x: (s, {n: fp.psum(v, "dp") for n, v in x.items()}), {}, {"a": X, "b": X}, mesh=fp.MeshShape(1, 2)
    )
    from funpipe.backends.spans import label_of_node

    made = [label_of_node(node) for node in passes.bucket()(traced).graph.nodes if node.origin]
    assert made and all(label.endswith("· bucket") for label in made)
