"""What each rank of the launched test of optimizers runs; in a module of its own, since other processes import it."""

import torch

import funpipe as fp
from tests.api.models import step_of
from tests.api.ranks import Tied, tied_loss

OPTIMIZER = fp.optim.ema(fp.optim.accumulate(fp.optim.muon(0.05, rest=fp.optim.adamw(1e-2)), 2), decay=0.5)


def trained_tied(pp):
    """Parameters, averages, slots, and the loss with the averages, after four steps."""
    mesh = None if pp is None else fp.mesh(pp=pp, device="cpu")
    step, ids = step_of(tied_loss, OPTIMIZER, mesh=mesh), torch.arange(8) % 7
    state = step.init(dict(Tied().named_parameters()), ids)
    for _ in range(4):
        state, _ = step(state, ids)
    found = fp.eval_step(tied_loss, like=step, params="ema")(state, ids)["loss"]
    torch.testing.assert_close(found, tied_loss(step.ema(state), ids))
    return step.gather(state)[0], step.ema(state), step.slots(state), found
