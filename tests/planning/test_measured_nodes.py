"""The time of every node, each different operation once."""

import torch

import funpipe as fp
from funpipe.planning import measured_nodes
from funpipe.planning.measured import signature
from funpipe.planning.measured_inputs import inputs_of
from funpipe.planning.measured_nodes import device_of, node_seconds
from funpipe.stages.costs import computes
from tests.planning.measuring import chain


def test_each_different_operation_is_timed_once(monkeypatch):
    """The four layers of the chain are one product, one tanh, and what their backwards are."""
    calls = []
    monkeypatch.setattr(measured_nodes, "seconds", lambda call, device: calls.append(call()) or len(calls))
    traced = chain()
    found = node_seconds(traced, inputs_of(traced))
    nodes = [n for n in traced.graph.nodes if computes(n)]
    assert found.keys() == {signature(n) for n in nodes} and len(calls) == len(found) < len(nodes)
    assert sorted(found.values()) == list(range(1, len(calls) + 1))


def test_a_node_is_timed_on_the_values_that_it_reads(monkeypatch):
    results = {}
    monkeypatch.setattr(
        measured_nodes, "seconds", lambda call, device: results.setdefault(len(results), call()) is None
    )
    w, x = torch.rand(3), torch.rand(3)
    traced = fp.trace(lambda p, b: torch.sin(p * b).sum(), w, x)
    node_seconds(traced, inputs_of(traced, {"param.": w, "batch.": x}))
    assert torch.equal(results[0], w * x) and torch.equal(results[1], torch.sin(w * x))


def test_no_gradient_is_recorded(monkeypatch):
    states = []
    monkeypatch.setattr(measured_nodes, "seconds", lambda call, device: states.append(torch.is_grad_enabled()) or 1.0)
    traced = chain()
    node_seconds(traced, inputs_of(traced))
    assert states and not any(states)


def test_a_node_is_waited_for_on_its_own_device():
    traced = chain()
    assert {device_of(n) for n in traced.graph.nodes if computes(n)} == {"cpu"}
