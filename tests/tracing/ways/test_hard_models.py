"""Each model that is hard to trace, in the way that works, with the gradients of eager PyTorch."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import TraceError
from tests.tracing.ways.hard_models import HARD, Sparse, around

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
# torch says what it does with scripts, with the caches of a compiled module under a hook, and with numpy's memory.
pytestmark = pytest.mark.filterwarnings("ignore")


def loss_of(apply):
    def loss(params, x, *, buffers):
        out, new = apply(params, buffers, x)
        return fp.Out(out.square().mean(), buffers=new)

    return loss


@pytest.mark.parametrize("hard", HARD, ids=lambda hard: hard.build.__name__)
def test_it_trains_as_in_eager_mode_in_the_first_way_that_works(hard):
    torch.manual_seed(0)
    model = around(hard.build())
    apply, params, buffers = fp.functionalize(model)
    cut = fp.stages.split_at({"2": "beginning"})
    step = fp.train_step(loss_of(apply), fp.optim.sgd(1.0), stages=cut, backend="interpret")
    state, metrics = step(step.init(params, X, buffers=buffers), X)
    traced = step.lowered.origin.traced
    assert (traced.way, traced.opaque) == (hard.way, hard.opaque)
    assert (len(traced.attempts) > 0) == (hard.way != "functional")
    wanted = model(X).square().mean()
    wanted.backward()
    torch.testing.assert_close(metrics["loss"], wanted.detach())
    moved = step.gather(state)[0]
    for name, param in model.named_parameters():
        torch.testing.assert_close(moved[name], param.detach() - param.grad)


def test_a_sparse_buffer_is_an_error_that_says_what_to_hold_in_its_place():
    apply, params, buffers = fp.functionalize(around(Sparse()))
    with pytest.raises(TraceError, match=r"buffers: leaf '1.adjacency' is a sparse tensor \(sparse_coo\).*x.values"):
        fp.trace(loss_of(apply), params, X, buffers=buffers)


def test_a_data_parallel_wrapper_is_traced_through():
    model = around(torch.nn.DataParallel(torch.nn.Linear(6, 6)))
    apply, params, buffers = fp.functionalize(model)
    assert fp.trace(loss_of(apply), params, X, buffers=buffers).way == "functional"


def test_a_lazy_module_is_told_apart():
    with pytest.raises(fp.FunpipeError, match="is lazy and has no shape yet; call the module once before"):
        fp.functionalize(around(torch.nn.LazyLinear(6)))
