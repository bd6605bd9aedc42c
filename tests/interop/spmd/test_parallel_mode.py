import re

import pytest
import torch
from torch.distributed.tensor import Partial, Replicate, Shard

from funpipe.interop.spmd.api import _override_placements, compile, dtensor_expand_mode
from funpipe.interop.spmd.data_parallel import DataParallelStyle
from funpipe.interop.spmd.errors import SpmdNotImplementedError, SpmdRuntimeError, SpmdTypeError
from funpipe.interop.spmd.parallel_mode import DataParallel, DTensorExpandMode, ParallelMode
from tests.interop.spmd.models import adam, batches, same, train_step, twins


def test_an_unknown_style():
    with pytest.raises(RuntimeError, match="Unknown parallel style: zzz. Use 'replicate' or 'fully_shard'.") as caught:
        DataParallel("zzz")
    assert isinstance(caught.value, SpmdRuntimeError)


def test_the_default_style():
    with pytest.raises(NotImplementedError, match="default mode not implemented. Use 'replicate'") as caught:
        DataParallel("default")
    assert isinstance(caught.value, SpmdNotImplementedError)


def test_a_batch_dimension_that_is_no_number():
    with pytest.raises(SpmdTypeError, match="input_batch_dim is 'rows'; give the number of a dimension"):
        DataParallel(input_batch_dim="rows")  # pyright: ignore[reportArgumentType]


def test_replicate_is_what_there_is_without_a_word():
    assert DataParallel().parallel_style is DataParallelStyle.REPLICATE


def test_data_parallel_needs_a_process_group():
    (model, optimizer), _ = twins(adam())
    with pytest.raises(SpmdRuntimeError, match="DataParallel needs a process group: call"):
        compile(parallel_mode=DataParallel())(train_step)(model, optimizer, batches(1)[0])


@pytest.mark.parametrize("placements", [[Partial()], [Shard(0), Shard(1)], []])
def test_placements_that_an_argument_cannot_have(placements):
    text = f"an argument cannot have the placements {placements}; use"
    with pytest.raises(SpmdNotImplementedError, match=re.escape(text)), _override_placements(torch.ones(1), placements):
        pass


def count(gm, name):
    return sum(node.name.startswith(name) for node in gm.graph.nodes)


def test_gradients_of_an_argument_that_all_ranks_share_are_not_summed():
    (model, optimizer), (its, other) = twins(adam(fused=True))
    (x,) = batches(1)
    step = compile()(train_step)
    with _override_placements(x, [Replicate()]):
        step(model, optimizer, x)
    train_step(its, other, x)
    assert same(model, its)
    assert count(step.__dict__["_compiled_obj"].gm, "all_reduce") == 0
    assert not dtensor_expand_mode._placements


def test_each_gradient_is_summed_once():
    (model, optimizer), _ = twins(adam(fused=True))
    step = compile()(train_step)
    step(model, optimizer, batches(1)[0])
    gm = step.__dict__["_compiled_obj"].gm
    assert count(gm, "all_reduce") == count(gm, "wait_tensor") == 4


def test_custom_passes_are_applied_once():
    seen = []
    (model, optimizer), _ = twins(adam(fused=True))
    step = compile(parallel_mode=DTensorExpandMode(lambda gm: seen.append(gm) or gm))(train_step)
    for x in batches(2):
        step(model, optimizer, x)
    assert len(seen) == 1


class Own(ParallelMode):
    """Multiplies every gradient by two, in the graph."""

    def partition(self, gm, model, optimizer, params_and_buffers, named_states, args, kwargs):
        self.given = (model, optimizer, list(params_and_buffers), list(named_states), args, kwargs)
        (update,) = gm.graph.find_nodes(op="call_function", target=torch.ops.aten._foreach_add.List)
        with gm.graph.inserting_before(update):
            doubled = [gm.graph.call_function(torch.ops.aten.mul.Tensor, (g, 2)) for g in update.args[1]]
        update.args = (update.args[0], doubled)
        gm.recompile()
        return gm

    def transform_and_compile(self, gm):
        return gm


def test_a_mode_of_ones_own_gets_a_graph_without_communication():
    mode = Own()
    (mine, optimizer), (its, other) = twins(lambda p: torch.optim.SGD(p, lr=0.5, foreach=True))
    step = compile(parallel_mode=mode)(train_step)
    for x in batches(2):
        step(mine, optimizer, x)
        other.param_groups[0]["lr"] = 1.0
        train_step(its, other, x)
    assert same(mine, its)
    assert mode.given[:4] == (mine, optimizer, [n for n, _ in mine.named_parameters()], [])
    assert count(step.__dict__["_compiled_obj"].gm, "all_reduce") == 0
