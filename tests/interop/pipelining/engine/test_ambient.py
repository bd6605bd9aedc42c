"""A step is what it would be in the modes of torch that surround the call."""

import torch
from torch import nn

from funpipe.interop.pipelining.engine import Call
from tests.interop.pipelining.engine.pipelines import WIDTH, batch, eager, engine, gradients


def test_automatic_casts_are_those_at_the_call():
    (x, y), module = batch(), nn.Linear(WIDTH, 3)
    made, plain = engine([module]), nn.Linear(WIDTH, 3)
    plain.load_state_dict(module.state_dict())
    for enabled in (False, True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = made.step(Call((x,), target=y))
            eager([plain], x, y)
            assert out.dtype is (torch.bfloat16 if enabled else torch.float32)
            torch.testing.assert_close(out, plain(x).detach())
    torch.testing.assert_close(gradients([module]), gradients([plain]))
    assert len(made.ready) == 2
