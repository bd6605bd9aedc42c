import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeError
from funpipe.planning import profile, profile_stages
from funpipe.planning.measured import signature
from funpipe.planning.measured_inputs import inputs_of, seconds
from funpipe.planning.measured_link import link_of
from funpipe.planning.measured_regions import Call, low, region_calls, region_seconds, with_times
from funpipe.stages import partition, rematerialise, split_backward
from funpipe.stages.costs import computes
from tests.tracing.gpt import gpt


def chain(rows=8, device="cpu"):
    params = {n: torch.ones(16, 16, device=device) for n in "abcd"}

    def loss(p, x):
        for w in p.values():
            x = torch.tanh(x @ w)
        return x.sum()

    return fp.trace(loss, params, torch.ones(rows, 16, device=device))


def test_every_node_of_the_graph_is_measured():
    traced = fp.trace(*gpt(blocks=1))
    costs = profile(traced, backend="interpret")
    stages = split_backward(rematerialise(partition(traced, (len(traced.forward) // 2,)), "full"))
    nodes = [n for s in stages for r in s.regions for n in r.module.graph.nodes if computes(n)]
    known = [n for n in nodes if signature(n) in costs.nodes]
    assert len(known) >= 0.95 * len(nodes)  # copies of values that share memory are made by the cut
    assert all(0 < t < 1 for t in costs.nodes.values())


def test_the_times_of_compiled_regions_are_shared_out_in_full():
    traced = chain()
    costs = profile(traced)
    (stage,) = partition(traced, ())
    found = fp.stages.stage_costs((stage,), costs)
    assert costs.backend == "step" and 0 < found.F[0] < 0.1 and 0 < found.B[0] < 0.1


def test_the_regions_of_a_partition_are_timed():
    traced = chain()
    found = profile_stages(traced, partition(traced, (4,)), backend="interpret")
    assert len(found.F) == 2 and min(*found.F, *found.B) > 0
    assert found.I[0] == 0 and found.W[0] == found.B[0] and found.I[1] + found.W[1] == pytest.approx(found.B[1])
    assert found.edges == fp.stages.stage_costs(partition(traced, (4,))).edges


def test_a_split_backward_has_times_of_its_own():
    stages = split_backward(partition(traced := chain(), (4,)))
    found = profile_stages(traced, stages, backend="interpret")
    assert found.I[1] > 0 and found.W[1] > 0 and found.W[0] > 0


def test_a_compiled_region_computes_what_the_interpreted_one_does():
    traced = chain()
    values = {"batch.": torch.rand(8, 16)}
    inputs = inputs_of(traced, values)
    both = [region_calls(partition(traced, (4,)), inputs, backend=b) for b in ("step", "interpret")]
    assert [call.name for call in both[0]] == ["F0", "F1", "B1", "B0"]
    for one, other in zip(*both, strict=True):
        assert all(torch.allclose(x, y) for x, y in zip(one(), other(), strict=True))


class Script:
    """A clock that only calls move on: each by the next of some durations, in seconds."""

    def __init__(self, *durations):
        self.now, self.durations = 0.0, list(durations)

    def __call__(self):
        return self.now

    def call(self, *inputs):
        self.now += self.durations.pop(0)
        return ()


def test_the_least_of_a_few_calls_counts_after_others_that_warm_up():
    script = Script(64, 32, 1, 4, 2)
    assert region_seconds([Call("F0", script.call, (), "cpu")], rounds=3, least=0, clock=script) == {"F0": 1}
    assert not script.durations


def test_of_many_calls_the_tenth_percentile_counts():
    assert low([9.0, 1.0, *(5.0,) * 8]) == 5.0 and low([2.0]) == 2.0


def test_in_each_round_every_region_runs_once():
    script = Script(64, 32, 64, 32, 4, 40, 1, 10, 2, 20)
    regions = [Call(name, script.call, (), "cpu") for name in ("F0", "B0")]
    assert region_seconds(regions, rounds=3, least=0, clock=script) == {"F0": 1, "B0": 10}


def test_rounds_go_on_until_the_time_is_over():
    script = Script(9, 9, 2, 3, 1, 8)
    assert region_seconds([Call("F0", script.call, (), "cpu")], rounds=1, least=6, clock=script) == {"F0": 1}
    assert script.durations == [8]


def test_times_replace_those_of_the_nodes():
    stages = partition(chain(), (4,))
    found = with_times(stages, {"F0": 1.0, "F1": 2.0, "B1": 6.0, "B0": 3.0})
    assert (found.F, found.B) == ((1.0, 2.0), (3.0, 6.0)) and found.I[1] + found.W[1] == pytest.approx(6.0)


def test_without_a_transport_a_message_is_a_copy():
    latency, bandwidth = link_of(None)
    assert 0 < latency < 1e-3 and 1e8 < bandwidth < 1e13


def test_real_values_are_taken_and_others_made():
    traced = chain()
    x = torch.rand(8, 16)
    inputs = inputs_of(traced, {"batch.": x})
    assert torch.equal(inputs["batch."], x) and inputs["param.a"].std() < 0.1
    assert inputs.keys() == {"batch.", "param.a", "param.b", "param.c", "param.d"}


def test_a_model_on_meta_tensors_is_measured_on_the_cpu():
    assert profile(chain(device="meta"), backend="interpret").nodes


def test_an_unknown_backend():
    with pytest.raises(FunpipeError, match=r"backend is 'jit'; measure with one of 'step', 'interpret'\."):
        profile(chain(), backend="jit")


def test_the_time_of_a_call_is_the_median():
    script = Script(64, 32, 1, 4, 2)
    assert seconds(script.call, runs=3, clock=script) == 2 and not script.durations


def measured_by_a_rank():
    mesh = fp.mesh(pp=2, device="cpu")
    step = fp.train_step(lambda p, x: (x @ p["a"] @ p["b"]).sum(), fp.optim.sgd(0.1), mesh=mesh, num_microbatches=2)
    traced = step.trace({n: torch.ones(16, 16) for n in "ab"}, torch.ones(4, 16))
    costs = profile(traced.traced, backend="interpret", transport=traced.transport, num_ranks=2)
    return costs, costs.transfer(2**20)


def test_ranks_measure_together_and_have_the_same_costs():
    one, other = fp.launch(measured_by_a_rank, 2)
    assert one == other and one[0].together == 2
    assert 0 < one[0].latency < 0.1 and one[1] > one[0].latency
