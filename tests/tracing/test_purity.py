import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from funpipe._errors import TraceError
from funpipe.functional import Out, functionalize
from funpipe.tracing import trace

PARAMS = {"w": torch.ones(3, 2)}
X = torch.ones(4, 3)


def test_a_parameter_written_in_place_is_refused():
    def loss(p, x):
        with torch.no_grad():
            p["w"].mul_(2)
        return (x @ p["w"]).sum()

    here = f"{__file__}:{loss.__code__.co_firstlineno + 2}"
    with pytest.raises(TraceError, match=rf"writes to the parameter 'w' in place, at {re.escape(here)}\. .*clone\(\)"):
        trace(loss, PARAMS, X)
    assert torch.equal(PARAMS["w"], torch.ones(3, 2))


def test_a_frozen_parameter_written_in_place_is_refused():
    params = {"frozen": torch.ones(2), "w": torch.ones(3, 2, requires_grad=True)}
    with pytest.raises(TraceError, match=r"writes to the parameter 'frozen' in place"):
        trace(lambda p, x: (x @ p["w"] + p["frozen"].add_(1)).sum(), params, X)


def test_a_write_through_a_view_is_seen():
    def loss(p, x):
        p["w"].detach()[0].zero_()
        return (x @ p["w"]).sum()

    with pytest.raises(TraceError, match=r"writes to the parameter 'w' in place"):
        trace(loss, PARAMS, X)


def test_a_batch_leaf_written_in_place_is_refused():
    with pytest.raises(TraceError, match=r"writes to the batch leaf 'x' in place, at .*test_purity.py:\d+\."):
        trace(lambda p, b: (b["x"].relu_() @ p["w"]).sum(), PARAMS, {"x": X})


def test_a_closed_over_tensor_written_in_place_is_refused():
    total = torch.zeros(())

    def loss(p, x):
        total.add_(1)
        return (x @ p["w"]).sum() + total

    with pytest.raises(TraceError, match=r"writes to a tensor that it closes over in place, at .*or make the tensor a"):
        trace(loss, PARAMS, X)


def test_values_of_its_own_may_be_written_in_place():
    def loss(p, x):
        h = x.clone()
        h[:, 0] = 2
        return F.relu(h @ p["w"], inplace=True).sum()

    traced = trace(loss, PARAMS, X)
    assert not any(n.target._schema.is_mutable for n in (*traced.forward, *traced.backward))


def test_buffers_may_be_written_in_place_and_are_returned():
    def loss(p, x, *, buffers):
        buffers["calls"].add_(1)
        return Out((x @ p["w"]).sum(), buffers=buffers)

    traced = trace(loss, PARAMS, X, buffers={"calls": torch.tensor(0)})
    assert traced.outputs["buffer.calls"].name == "add"


def test_a_module_may_write_to_its_buffers():
    apply, params, buffers = functionalize(nn.BatchNorm1d(3))

    def loss(p, x, *, buffers):
        out, buffers = apply(p, buffers, x)
        return Out(out.sum(), buffers=buffers)

    traced = trace(loss, params, X, buffers=buffers)
    assert set(traced.outputs) == {"loss", "buffer.num_batches_tracked", "buffer.running_mean", "buffer.running_var"}
