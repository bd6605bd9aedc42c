"""Steps that are an update alone, whose gradients are the batch: quick to trace, any shapes and dtypes."""

from functools import cache

import torch
from hypothesis import strategies as st

import funpipe as fp
from funpipe.graphs import Graph, interpret
from funpipe.optim import adam, adamw, chain, clip_by_global_norm, from_pair, groups, sgd, warmup_cosine
from funpipe.passes.optimizer.calls import updates
from tests.simulated import steps


def by_name(name, leaf):
    return "slow" if name < "leaf2" else "fast"


def _momentum(grads, state, params):
    state = {name: 0.5 * m + grads[name] for name, m in state.items()}
    return {name: -0.1 * m for name, m in state.items()}, state


OPTIMIZERS = {
    "sgd": sgd(0.1, weight_decay=0.1),
    "nesterov": sgd(0.1, momentum=0.9, nesterov=True),
    "dampening": sgd(0.1, momentum=0.9, dampening=0.5),
    "adam": adam(0.1, weight_decay=0.1),
    "adamw": adamw(warmup_cosine(0.1, 2, 9)),
    "clipped": chain(clip_by_global_norm(0.5), adam(0.1)),
    "masked": chain(clip_by_global_norm(0.5), adamw(0.1, decay_mask=lambda name, leaf: leaf.dim() > 0)),
    "groups": groups({"slow": adamw(0.01, weight_decay=0.1), "fast": sgd(0.1, momentum=0.9)}, by_name),
    "pair": from_pair(lambda params: {n: torch.zeros_like(p) for n, p in params.items()}, _momentum),
}

SHAPES = {"leaf0": (3, 2), "leaf1": (), "leaf2": (5,), "leaf3": (2, 2)}


def draw(seed, shapes=SHAPES, dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    kinds = dtype if isinstance(dtype, dict) else dict.fromkeys(shapes, dtype)
    leaves = {n: torch.randn(shape, generator=random, dtype=torch.float64) for n, shape in shapes.items()}
    return {n: leaf.to(kinds[n]) for n, leaf in leaves.items()}


def initial(optimizer, params, lr=None):
    state = {"params": params, "opt": optimizer.init(params), "step": torch.tensor(0)}
    return state if lr is None else {**state, "lr": torch.tensor(lr)}


def update_step(optimizer, params, lr=None, dp=1):
    """A traced step `(state, gradients) -> (state, {})`, the gradients averaged over `dp` ranks."""

    def step(state, grads):
        mean = {n: fp.pmean(g, "dp") for n, g in grads.items()} if dp > 1 else grads
        own = {"lr": state["lr"]} if "lr" in state else {}
        new, opt = fp.optim.apply(optimizer, state["params"], mean, state["opt"], state["step"], **own)
        return {"params": new, "opt": opt, "step": state["step"] + 1, **own}, {}

    return fp.trace_step(step, initial(optimizer, params, lr), params, mesh=fp.MeshShape(1, dp))


@cache
def step_of(name):
    """The step of an optimizer by name, over the usual leaves."""
    return update_step(OPTIMIZERS[name], draw(0))


def trained(step, state, batches):
    """The state after several steps, on the first rank."""
    dp = step.mesh.dp
    states = [state] * dp
    for batch in batches:
        given = batch if dp > 1 else [batch]
        states = [new for new, _ in steps(step, states, given)]
    return states[0]


def outputs(graph: Graph, inputs):
    """The outputs of a graph on copies of inputs."""
    return interpret(graph, {name: x.clone() for name, x in inputs.items()})


def calls_of(step):
    """The leaves of each update."""
    return [call.leaves for call in updates(step.graph)]


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_same_bits(found[name], value)
        else:
            assert found[name].dtype == value.dtype
            assert torch.equal(found[name].reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8)), name


@st.composite
def models(draw_from):
    """Shapes and dtypes of a few leaves."""
    shapes = draw_from(st.lists(st.lists(st.integers(0, 4), max_size=2).map(tuple), min_size=1, max_size=5))
    kinds = st.sampled_from([torch.float64, torch.float32, torch.bfloat16])
    named = {f"leaf{i}": shape for i, shape in enumerate(shapes)}
    return named, {name: draw_from(kinds) for name in named}
