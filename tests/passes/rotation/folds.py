"""A step, and its rotation, repeated over batches on all simulated ranks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import funpipe as fp
from funpipe._typing import MeshShape
from funpipe.graphs import Graph, Step
from funpipe.graphs.simulate import Ranks
from funpipe.optim.base import map_slots
from funpipe.passes.rotation import RotatedGraphs

Values = dict[str, Any]
LAYERS, WIDTH, ROWS = 3, 4, 3


def loss_fn(params: Values, batch: Values) -> Tensor:
    h = batch["x"]
    for i in range(LAYERS):
        h = torch.tanh(torch.addmm(params[f"b{i}"], h, params[f"w{i}"]))
    return (h - batch["y"]).square().mean()


def mlp(optimizer: fp.optim.Optimizer, mesh: MeshShape, split: bool = True, lr: float | None = None) -> Step:
    """A data-parallel step: a collective for each leaf, last layers first, and an update for each layer, or for all."""

    def step(state: Values, batch: Values) -> tuple[Values, Values]:
        grads, loss = torch.func.grad_and_value(loss_fn)(state["params"], batch)
        grads = {name: fp.pmean(grads[name], "dp") for name in sorted(grads, key=lambda n: (-int(n[1]), n[0]))}
        parts = [[f"b{i}", f"w{i}"] for i in reversed(range(LAYERS))] if split else [list(grads)]
        params: Values = {}
        slots: Values = {}
        for names in parts:
            new, kept = _applied(optimizer, state, grads, names)
            params |= new
            slots = _merged(slots, kept)
        new_state = {"params": params, "slots": slots, "step": state["step"] + 1}
        kept_lr = {"lr": state["lr"]} if "lr" in state else {}
        return new_state | kept_lr, {"loss": fp.pmean(loss, "dp")}

    return fp.trace_step(step, start(optimizer, lr=lr), batches(1)[0], mesh=mesh)


def _applied(optimizer: fp.optim.Optimizer, state: Values, grads: Values, names: list[str]) -> tuple[Values, Values]:
    given = {"lr": state["lr"]} if "lr" in state else {}
    own = map_slots(lambda slot: {n: slot[n] for n in names}, state["slots"])
    params = {n: state["params"][n] for n in names}
    return fp.optim.apply(optimizer, params, {n: grads[n] for n in names}, own, state["step"], **given)


def _merged(one: Values, other: Values) -> Values:
    return {k: _merged(one.get(k, {}), v) if isinstance(v, dict) else v for k, v in other.items()} | {
        k: v for k, v in one.items() if k not in other
    }


def start(optimizer: fp.optim.Optimizer, seed: int = 0, lr: float | None = None) -> Values:
    made = torch.Generator().manual_seed(seed)
    shapes = {f"w{i}": (WIDTH, WIDTH) for i in range(LAYERS)} | {f"b{i}": (WIDTH,) for i in range(LAYERS)}
    params = {name: torch.randn(*shape, generator=made) / 2 for name, shape in shapes.items()}
    state = {"params": params, "slots": optimizer.init(params), "step": torch.tensor(0)}
    return state if lr is None else state | {"lr": torch.tensor(lr, dtype=torch.float64)}


def batches(count: int, seed: int = 0) -> list[Values]:
    made = torch.Generator().manual_seed(1000 + seed)
    return [{n: torch.randn(ROWS, WIDTH, generator=made) for n in ("x", "y")} for _ in range(count)]


def state_of(graph: Graph, outputs: Values) -> Values:
    return {name: outputs[name] for name in graph.outputs if name.startswith("state.")}


def aux_of(outputs: Values) -> Values:
    return {name: value for name, value in outputs.items() if name.startswith("aux.")}


def folded(
    graphs: Sequence[Graph], states: Sequence[Values], rows: Sequence[Sequence[Values]], mesh: MeshShape
) -> tuple[list[Values], list[list[Values]]]:
    """The step repeated: each rank's state at the end, and its results of every step."""
    found = []
    ranks = Ranks(mesh)
    for batch in rows:
        outputs = ranks.run(graphs, [s | b for s, b in zip(states, batch, strict=True)])
        states = [state_of(g, o) for g, o in zip(graphs, outputs, strict=True)]
        found.append([aux_of(o) for o in outputs])
    return list(states), found


def folded_rotated(
    graphs: Sequence[RotatedGraphs],
    states: Sequence[Values],
    rows: Sequence[Sequence[Values]],
    mesh: MeshShape,
    flush_after: Sequence[int] = (),
) -> tuple[list[Values], list[list[Values]]]:
    """The same of a rotated step, flushed at the end and after some steps on the way."""
    ranks, found, pending = Ranks(mesh), [], False
    current = list(states)
    for number, batch in enumerate(rows):
        run = [g.main if pending else g.first for g in graphs]
        outputs = ranks.run(run, [s | b for s, b in zip(current, batch, strict=True)])
        current = [{n: v for n, v in o.items() if not n.startswith("aux.")} for o in outputs]
        found.append([aux_of(o) for o in outputs])
        pending = True
        if number in flush_after:
            current, pending = ranks.run([g.flush for g in graphs], current), False
    return ranks.run([g.flush for g in graphs], current) if pending else current, found


def same(one: Any, other: Any) -> bool:
    """Whether nested lists, tuples and dicts of tensors hold the same bits under the same names."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[n], other[n]) for n in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one.dtype == other.dtype and torch.equal(one, other)


def inputs_of(step: Step, state: Values, rows: Sequence[Values]) -> tuple[list[Values], list[list[Values]]]:
    """Each rank's state and batches by the names of a graph's inputs; all ranks have the same state."""
    count = step.mesh.pp * step.mesh.dp
    given = step.inputs(state, rows[0], {"dp": 0, "pp": 0})
    states = [{n: v for n, v in given.items() if n.startswith("state.")} for _ in range(count)]
    named = [{f"batch.{n}": v for n, v in row.items()} for row in rows]
    return states, [named[i : i + count] for i in range(0, len(named), count)]
