"""Programs of stages that were traced one by one: the same plan on every rank, and the gradients of autograd."""

from dataclasses import replace

import pytest
import torch

import funpipe as fp
from funpipe.passes import optimize
from funpipe.programs import Form, Outline
from funpipe.stages import link, told
from tests.stages.parts import WIRES, loss_of, pieces, weights

GENERATOR = torch.Generator().manual_seed(1)
X, T = torch.randn(8, 3, generator=GENERATOR), torch.randn(8, 3, generator=GENERATOR)


def programs(made, schedule, **form):
    stages = link(made, WIRES)
    wanted = {f"2.{n}": made[2].outputs[n] for n in ("loss", "out")}
    stages = (*stages[:2], replace(stages[2], results=wanted))
    table = fp.schedules.get(schedule)().table(3, 4)
    return optimize(fp.programs.lower(Outline.of_pieces(made, stages), stages, table, form=Form(True, **form)))


def values(program, w):
    rows = {"batch.0.x": X, "batch.2.t": T}
    found = {"step": torch.tensor(0)}
    for name in program.inputs:
        whole, _, i = name.partition("@")
        if whole in rows:
            found[name] = rows[whole].chunk(4)[int(i)] if i else rows[whole]
        elif name.startswith("leaf."):
            found[name] = w[int(name.split(".")[1])].detach()
    return found


def gradients(plan, found):
    return [b.slots[0].view(rank[f"grad.{b.name}"]) for b, rank in zip(plan.layout.buckets, found, strict=True)]


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "zbh1"])
@pytest.mark.parametrize("split_batch", [True, False])
def test_gradients_are_those_of_autograd(schedule, split_batch):
    w = weights()
    plan = programs(pieces(split=schedule == "zbh1"), schedule, split_batch=split_batch)
    [found] = fp.programs.interpret(plan, [[values(p, w) for p in plan.programs]])
    losses = [loss_of(w, x, t) for x, t in zip(X.chunk(4), T.chunk(4), strict=True)]
    wanted = torch.autograd.grad(sum(losses) / 4, w)
    torch.testing.assert_close(gradients(plan, found), list(wanted))


def test_each_microbatchs_results_are_returned_by_themselves():
    plan = programs(pieces(), "gpipe")
    w = weights()
    [found] = fp.programs.interpret(plan, [[values(p, w) for p in plan.programs]])
    names = plan.programs[2].outputs
    for i, (x, t) in enumerate(zip(X.chunk(4), T.chunk(4), strict=True)):
        torch.testing.assert_close(found[2][names[f"2.loss@{i}"]], loss_of(w, x, t).detach())


def test_gradients_may_be_sums():
    w = weights()
    plans = [programs(pieces(), "gpipe", sum_gradients=summed) for summed in (False, True)]
    means, sums = (
        gradients(plan, fp.programs.interpret(plan, [[values(p, w) for p in plan.programs]])[0]) for plan in plans
    )
    torch.testing.assert_close([4 * m for m in means], sums)


def test_every_rank_makes_the_same_plan():
    made = pieces()
    views = [[p if i == rank else told(p) for i, p in enumerate(made)] for rank in range(3)]
    assert len({programs(view, "1f1b").digest() for view in views}) == 1
