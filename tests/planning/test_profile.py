"""Measured costs of a graph and of its partitions; the parts are tested in `test_measured_*.py`."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeError
from funpipe.planning import profile, profile_stages
from funpipe.planning.measured import signature
from funpipe.stages import partition, rematerialise, split_backward
from funpipe.stages.costs import computes
from tests.planning.measuring import chain
from tests.tracing.gpt import gpt


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


def test_a_model_on_meta_tensors_is_measured_on_the_cpu():
    assert profile(chain(device="meta"), backend="interpret").nodes


def test_an_unknown_backend():
    with pytest.raises(FunpipeError, match=r"backend is 'jit'; measure with one of 'step', 'interpret'\."):
        profile(chain(), backend="jit")


def measured_by_a_rank():
    """With a communicator for each direction, as on GPUs."""
    mesh = fp.mesh(pp=2, device="cpu")
    step = fp.train_step(lambda p, x: (x @ p["a"] @ p["b"]).sum(), fp.optim.sgd(0.1), mesh=mesh, num_microbatches=2)
    traced = step.trace({n: torch.ones(16, 16) for n in "ab"}, torch.ones(4, 16))
    traced.transport.network.apart = True
    costs = profile(traced.traced, backend="interpret", transport=traced.transport, num_ranks=2)
    return costs, costs.transfer(2**20)


def test_ranks_measure_together_and_have_the_same_costs():
    one, other = fp.launch(measured_by_a_rank, 2)
    assert one == other and one[0].together == 2
    assert 0 < one[0].latency < 0.1 and one[1] > one[0].latency
