import pytest
import torch

from funpipe._errors import FunpipeError
from funpipe.planning import Measured
from funpipe.planning.measured import signature
from funpipe.stages import balanced, partition, rematerialise
from funpipe.stages.costs import computes
from funpipe.tracing import trace

X = torch.ones(8, 4)


def traced_of(rows=8):
    params = {"a": torch.ones(4, 4), "b": torch.ones(4, 4)}
    return trace(lambda p, x: torch.tanh(torch.tanh(x @ p["a"]) @ p["b"]).sum(), params, torch.ones(rows, 4))


def node(name, rows=8):
    return next(n for n in traced_of(rows).forward if n.name == name)


def costs_of(**times):
    return Measured({signature(node(n)): t for n, t in times.items()}, flops=1e3, bandwidth=1e2, latency=2.0, link=4.0)


def test_a_measured_operation_takes_what_was_measured():
    assert costs_of(mm=5.0).node(node("mm")) == 5.0
    assert costs_of(mm=5.0).node(node("mm_1")) == 5.0  # the same operator on the same types


def test_others_take_their_share_of_the_rates():
    costs = costs_of(mm=5.0)
    assert costs.node(node("mm", rows=16)) == max(2 * 16 * 4 * 4 / 1e3, 4 * (16 * 4 * 2 + 16) / 1e2)
    assert costs.node(node("tanh")) == 2 * 4 * 8 * 4 / 1e2


def test_a_message_takes_the_latency_and_its_bytes():
    assert costs_of().transfer(8) == 4.0 and costs_of().transfer(0) == 0.0


def test_nodes_of_regions_are_known_rematerialised_ones_too():
    traced = traced_of()
    costs = Measured({signature(n): 7.0 for n in (*traced.forward, *traced.backward)}, 1.0, 1.0, 0.0, 1.0)
    for stage in rematerialise(partition(traced, (2,)), "full"):
        nodes = [n for region in stage.regions for n in region.module.graph.nodes if computes(n)]
        assert {costs.node(n) for n in nodes} == {7.0}


def test_types_numbers_and_strides_are_part_of_a_signature():
    def made(fn, *tensors):
        return signature(trace(lambda p, x: fn(p, x).sum(), *tensors).forward[-2])

    one = made(lambda p, x: p * 2, X, X)
    assert one == made(lambda p, x: p * 2, X, X)
    others = [made(lambda p, x: p * 3, X, X), made(lambda p, x: p * 2, X[:4], X), made(lambda p, x: p.t() * 2, X, X)]
    assert len({one, *others}) == 4


def test_a_file_gives_the_same_costs_and_the_same_cut(tmp_path):
    costs = costs_of(mm=5.0, tanh=1.0)
    costs.save(tmp_path / "costs.json")
    assert Measured.load(tmp_path / "costs.json") == costs
    assert balanced(2, Measured.load(tmp_path / "costs.json"))(traced_of()) == balanced(2, costs)(traced_of())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '{"version": 1, "speed": 3}'])
def test_a_file_of_something_else(tmp_path, text):
    (tmp_path / "costs.json").write_text(text)
    with pytest.raises(FunpipeError, match=r"costs\.json holds no measured costs; write it with Measured\.save\."):
        Measured.load(tmp_path / "costs.json")


def test_a_file_of_another_version(tmp_path):
    costs_of().save(tmp_path / "costs.json")
    text = (tmp_path / "costs.json").read_text().replace('"version": 1', '"version": 0')
    (tmp_path / "costs.json").write_text(text)
    with pytest.raises(FunpipeError, match=r"of version 0, and this is 1: measure and save again\."):
        Measured.load(tmp_path / "costs.json")


def test_it_prints_rates_and_the_longest_operators():
    text = costs_of(mm=5.0).as_text()
    assert "measured by 1 rank at once" in text and "5000000.0 us  aten.mm" in text
