"""Shards on two ranks are updated as whole leaves are."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeError
from funpipe.optim import adafactor, adamw, apply, apply_sharded, chain, clip_by_global_norm, muon, sgd
from tests.optim.references import draw
from tests.simulated import steps

SHAPES = {"layers.0.weight": (4, 6), "layers.1.weight": (3, 8), "layers.0.bias": (4,), "scale": (3,)}
DIMS = {"layers.0.weight": 0, "layers.1.weight": 1, "layers.0.bias": 0, "scale": None}
OPTIMIZERS = {
    "adamw": chain(clip_by_global_norm(0.5), adamw(0.1)),
    "muon": chain(clip_by_global_norm(0.5), muon(0.1, rest=sgd(0.1, momentum=0.9))),
    "adafactor": adafactor(0.1),
}
WHOLE = {"adamw": (), "muon": ("momentum",), "adafactor": ("row_var", "col_var", "variance")}


def part(name, leaf, rank):
    dim = DIMS[name]
    return leaf.clone() if dim is None else leaf.chunk(2, dim)[rank].clone()


def share(state, rank, whole):
    """A rank's shards of a state; matrices' slots stay whole."""

    def cut(path, value):
        if isinstance(value, dict):
            return {key: cut((*path, key), inner) for key, inner in value.items()}
        is_whole = any(slot in whole for slot in path) and (value.dim() > 1 or "momentum" not in path)
        return value.clone() if is_whole else part(path[-1], value, rank)

    return cut((), state)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_shards_are_updated_as_whole_leaves(name):
    optimizer, params, grads = OPTIMIZERS[name], draw(0, SHAPES), draw(1, SHAPES)
    state = optimizer.init(params)

    def step(state, batch):
        new, slots = apply_sharded(optimizer, state["params"], batch, state["slots"], state["step"], dims=DIMS)
        return {"params": new, "slots": slots, "step": state["step"] + 1}, {}

    states = [
        {"params": share(params, rank, ()), "slots": share(state, rank, WHOLE[name]), "step": torch.tensor(0)}
        for rank in range(2)
    ]
    batches = [share(grads, rank, ()) for rank in range(2)]
    traced = fp.trace_step(step, states[0], batches[0], mesh=fp.MeshShape(1, 2))
    for number in range(2):
        found = steps(traced, states, batches)
        states = [new for new, _ in found]
        params, state = apply(optimizer, params, grads, state, torch.tensor(number))
    for rank in range(2):
        for leaf, value in states[rank]["params"].items():
            torch.testing.assert_close(value, part(leaf, params[leaf], rank), rtol=1e-12, atol=1e-12, msg=leaf)


def test_a_missing_dimension_is_named():
    leaves = {"w": torch.ones(2)}
    with pytest.raises(FunpipeError, match=r"dims lacks 'w'; give its dimension, or None"):
        apply_sharded(sgd(0.1), leaves, leaves, {}, torch.tensor(0), dims={})
