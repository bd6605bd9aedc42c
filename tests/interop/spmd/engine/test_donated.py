import pytest
import torch
from torch import fx

from funpipe.interop.spmd.api import compile
from funpipe.interop.spmd.gm_transformation import GraphModuleTransformation
from tests.interop.spmd.models import adam, batches, same, train_step, twins
from tests.interop.spmd.moving import updates_moved


def without_names(gm):
    """A graph module that knows nothing of inputs and outputs."""
    return fx.GraphModule(gm, gm.graph)


def written(step):
    """The operators of what runs that write."""
    targets = [node.target for node in step.__dict__["_compiled_obj"].runs.graph.nodes]
    names = [target.overloadpacket.__name__ for target in targets if hasattr(target, "overloadpacket")]
    return [name for name in names if name.endswith("_")]


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}])
@pytest.mark.parametrize("transformation", [None, without_names, GraphModuleTransformation()])
def test_updates_are_in_place_and_the_same(options, transformation):
    (mine, optimizer), (its, other) = twins(adam(**options))
    step = compile(gm_transformation=transformation)(train_step)
    for x in batches(3):
        step(mine, optimizer, x)
        train_step(its, other, x)
    assert same(mine, its)
    assert "_foreach_add_" in written(step)


def test_moved_work_runs_as_it_is():
    (model, optimizer), _ = twins(adam(fused=True))
    step = compile(gm_transformation=updates_moved())(train_step)
    step(model, optimizer, batches(1)[0], last_train_step=True)
    compiled = step.__dict__["_compiled_obj"]
    assert compiled.runs is compiled.gm


def test_a_returned_parameter_is_the_new_one_and_stays_it():
    def step(model, optimizer, x):
        old = model.mod[0].weight.detach().clone()
        train_step(model, optimizer, x)
        return old, model.mod[0].weight.detach()

    (mine, optimizer), (its, other) = twins(adam(fused=True))
    compiled = compile()(step)
    for x in batches(2):
        found, expected = compiled(mine, optimizer, x), step(its, other, x)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_parameters_that_share_memory_are_not_written_by_the_graph():
    (mine, optimizer), (its, other) = twins(adam(fused=True))
    for model in (mine, its):
        model.mod[2].weight.data = model.mod[0].weight.data
    step = compile()(train_step)
    step(mine, optimizer, batches(1)[0])
    assert written(step) == []
