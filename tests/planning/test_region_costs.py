"""A plan with the measured times of whole regions."""

import torch

import funpipe as fp
from funpipe.planning import RegionCosts
from tests.planning.models import cluster


def problem():
    def loss(params, x):
        for w in params:
            x = torch.tanh(x @ w)
        return x.square().mean()

    return loss, [torch.randn(96, 96) / 10 for _ in range(4)], torch.randn(8, 96)


def test_stages_have_measured_times_and_the_bytes_of_the_graph():
    traced = fp.trace(*problem())
    stages = fp.stages.partition(traced, fp.stages.balanced(2)(traced))
    found = RegionCosts(fp.stages.Roofline(), backend="interpret").of_stages(traced, stages)
    plain = fp.stages.stage_costs(stages)
    assert (found.saved, found.edges, found.owned) == (plain.saved, plain.edges, plain.owned)
    assert min(found.F) > 0 and min(found.B) > 0 and min(found.W) > 0
    assert found.I[0] == 0 < found.I[1]


def test_a_plan_looks_at_regions():
    loss, params, batch = problem()
    plans = fp.plan(
        loss,
        params,
        batch,
        cluster=cluster(),
        global_batch=16,
        rows=(8,),
        pp=(2,),
        remat=("none",),
        schedules=["1f1b"],
        costs=RegionCosts(fp.stages.Roofline(1e9, 1e9), backend="interpret"),
    )
    first, second = plans[0].loads
    roofline = fp.stages.Roofline(1e9, 1e9)
    traced = fp.trace(loss, params, batch)
    guessed = fp.stages.stage_costs(fp.stages.partition(traced, plans[0].cutter(traced)), roofline)
    assert (first.F, second.F) != guessed.F
    assert plans[0].prediction.simulation.busy[0] == 2 * (first.F + first.B)
