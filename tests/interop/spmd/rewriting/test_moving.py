"""Any bucket before any node of the forward: the step itself, or an error that names a reader."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe.interop.spmd.api import compile
from funpipe.interop.spmd.errors import SpmdValueError
from funpipe.interop.spmd.graph_optimization import (
    comm_fusion_with_concat,
    find_all_descendants,
    get_all_fused_optimizer_blocks,
    iter_move_grads_and_optimizers,
    remove_copy_from_optimizer,
    schedule_comm_wait,
)
from funpipe.interop.spmd.graph_utils import find_node
from funpipe.interop.spmd.iter_graph_module import IterGraphModule
from tests.interop.spmd import models
from tests.interop.spmd.traced_steps import batches, fold, initial, traced

GM = traced(2)
FORWARD = ["addmm", "relu", "addmm_1", "relu_1"]
READERS = {"all_reduce": "addmm_1", "all_reduce_1": "addmm_1", "all_reduce_2": "addmm", "all_reduce_3": "addmm"}


@settings(max_examples=16, deadline=None)
@given(st.sampled_from(list(READERS)), st.sampled_from(FORWARD), st.lists(st.booleans(), max_size=4))
def test_a_move_keeps_every_step_or_names_the_reader(collective, target, lasts):
    module = IterGraphModule(GM)
    remove_copy_from_optimizer(module)
    if FORWARD.index(target) > FORWARD.index(READERS[collective]):
        with pytest.raises(SpmdValueError, match=re.escape(f": {READERS[collective]} (aten.addmm.default)")):
            iter_move_grads_and_optimizers(module, collective, target)
        return
    iter_move_grads_and_optimizers(module, collective, target)
    state, begin = initial(2), 0
    for end in [i + 1 for i, last in enumerate(lasts) if last] + [len(lasts)]:
        state = fold(module, state, batches(4)[begin:end])
        begin = end
    plain = fold(lambda *flat, last_iter=False: GM(*flat), initial(2), batches(4)[: len(lasts)])
    assert all(torch.equal(a, b) for a, b in zip(state, plain, strict=True))


def bucket_moved(gm):
    """The one bucket of all gradients, and every fused update."""
    module = IterGraphModule(gm)
    comm_fusion_with_concat(module, 100)
    schedule_comm_wait(module)
    remove_copy_from_optimizer(module)
    iter_move_grads_and_optimizers(module, "all_reduce_default", "addmm")
    module.finalize_setup()
    return module


def first_moved(gm):
    """The gradient that is ready first, and its update, split from each optimizer."""
    module = IterGraphModule(gm)
    remove_copy_from_optimizer(module)
    before = len(get_all_fused_optimizer_blocks(module, "_fused"))
    iter_move_grads_and_optimizers(module, "all_reduce", "relu")
    assert len(get_all_fused_optimizer_blocks(module, "_fused")) == before + 1
    module.finalize_setup()
    return module


def all_moved(gm):
    """All-reduces and what depends on them, whatever that is."""
    module = IterGraphModule(gm)
    roots = find_node(module.graph, lambda n: n.name.startswith("all_reduce") or n.name == "_foreach_add")
    (target,) = find_node(module.graph, lambda n: n.name == "addmm")
    module.graph.move_to_next_iter_before(find_all_descendants(module, roots), target)
    module.finalize_setup()
    return module


def two_groups(params):
    params = list(params)
    groups = [{"params": params[:2], "lr": 0.05}, {"params": params[2:], "betas": (0.5, 0.9)}]
    return torch.optim.Adam(groups, lr=0.01, fused=True)


@pytest.mark.parametrize(
    ("make", "transformation"),
    [
        (two_groups, bucket_moved),
        (two_groups, first_moved),
        (lambda p: torch.optim.AdamW(p, lr=0.01, fused=True, amsgrad=True), first_moved),
        (lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, fused=True), first_moved),
        (models.adam(foreach=True), all_moved),
        (models.adam(foreach=False), all_moved),
    ],
)
def test_every_optimizer_moves(make, transformation):
    (mine, optimizer), (its, other) = models.twins(make)
    step = compile(gm_transformation=transformation)(models.train_step)
    for i, x in enumerate(models.batches(5)):
        step(mine, optimizer, x, last_train_step=i == 2)
        models.train_step(its, other, x)
        for each in (optimizer, other):
            each.param_groups[0]["lr"] *= 0.5
    assert models.same(mine, its)
