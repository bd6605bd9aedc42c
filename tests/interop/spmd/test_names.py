"""Names of the original that are here with another meaning, or not."""

import importlib

import pytest
import torch
from torch import nn
from torch.distributed.tensor import Shard

from funpipe.interop.spmd.api import stateless_func
from funpipe.interop.spmd.distribute import Schema
from funpipe.interop.spmd.errors import SpmdAttributeError
from tests.interop.spmd.models import adam, train_step, twins

NAMES = {
    "api": ["COMPILED_OBJECT_KEY", "Override", "_CompiledResult", "_override_placements", "compile", "stateless_func"],
    "data_parallel": ["DataParallelStyle"],
    "distribute": ["Schema"],
    "experimental_ops": [],
    "gm_transformation": ["GraphModuleTransformation"],
    "graph_optimization": ["CommBlock", "comm_fusion_with_concat", "get_comm_block", "schedule_comm_wait"],
    "graph_utils": ["OP", "CommType", "find_node"],
    "iter_graph_module": ["IterGraph", "IterGraphModule"],
    "parallel_mode": ["DTensorExpandMode", "DataParallel", "ParallelMode"],
    "partial_lower": ["partial_lower"],
}


@pytest.mark.parametrize("module", NAMES)
def test_names_are_where_they_were(module):
    found = importlib.import_module(f"funpipe.interop.spmd.{module}")
    assert all(hasattr(found, name) for name in NAMES[module])


@pytest.mark.parametrize(
    ("module", "name", "text"),
    [
        ("api", "SPMD_DECOMP_TABLE", "becomes its functional form without a table; leave it out"),
        ("api", "nothing", "has no attribute 'nothing'"),
        ("batch_dim_utils", "BatchDimAnalyzer", "leave the analysis out"),
    ],
)
def test_names_that_are_gone_say_so(module, name, text):
    found = importlib.import_module(f"funpipe.interop.spmd.{module}")
    with pytest.raises(SpmdAttributeError, match=text) as caught:
        getattr(found, name)
    assert isinstance(caught.value, AttributeError)


def test_a_schema_is_a_mesh_and_placements():
    assert Schema(mesh=None, placements=[Shard(0)]).placements == [Shard(0)]  # pyright: ignore[reportArgumentType]


def test_a_step_with_other_state_leaves_the_own_alone():
    (mine, optimizer), (its, other) = twins(adam(fused=True))
    for model, own in ((mine, optimizer), (its, other)):
        train_step(model, own, torch.ones(4, 8))
    params = {n: nn.Parameter(p.detach().clone()) for n, p in mine.named_parameters()}
    states = {n: {k: v.clone() for k, v in optimizer.state[p].items()} for n, p in mine.named_parameters()}
    before = [p.clone() for p in mine.parameters()]
    _, found, moments = stateless_func(train_step, params, {}, states, (mine, optimizer, torch.ones(4, 8)), {})
    train_step(its, other, torch.ones(4, 8))
    assert all(torch.equal(p, q) for p, q in zip(mine.parameters(), before, strict=True))
    assert all(torch.equal(p, q) for p, q in zip(found, its.parameters(), strict=True))
    for state, p in zip(moments, its.parameters(), strict=True):
        assert all(torch.equal(value, other.state[p][key]) for key, value in state.items())
