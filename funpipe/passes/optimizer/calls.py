"""One reading of all updates: by `funpipe.optim`, and by the fused operators of torch, in any of their overloads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from funpipe._errors import GraphError
from funpipe.graphs import Graph, Node, Ref
from funpipe.optim.slots import slot_paths
from funpipe.optim.update_op import UPDATE
from funpipe.passes.optimizer.list_calls import ListCall, read_lists

aten = torch.ops.aten

FUSED = {
    aten._fused_adam: ("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"),
    aten._fused_adamw: ("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"),
    aten._fused_sgd: ("momentum_buffer_list",),
}
"""The fused updates of torch, and the arguments that hold their slots; results are parameters, gradients, slots."""


@dataclass(frozen=True, eq=False)
class UpdateCall:
    """An update of some leaves.

    Args:
        call: the call over lists that it is.
        kind: `"update"` for one by `funpipe.optim`, else the operator of torch: `"_fused_adam"`.
        leaves: for each leaf its name: of the state's leaf that is its parameter, or of the value.
        params: for each leaf the value that is its parameter.
        grads: for each leaf its gradient.
        slots: by the slot's name, for each leaf its value.
        steps: the step, for each leaf or for all.
        settings: the other arguments: `lr` and the like, or `norm`, `lr`, `optimizer` and `label`.
        rows: where in the results the new values are: of `"params"`, `"grads"`, and of each slot.
    """

    call: ListCall
    kind: str
    leaves: tuple[str, ...]
    params: tuple[str, ...]
    grads: tuple[str, ...]
    slots: Mapping[str, tuple[str, ...]]
    steps: tuple[str, ...]
    settings: Mapping[str, Any]
    rows: Mapping[str, int]

    @property
    def name(self) -> str:
        """The name of its node."""
        return self.call.node.name

    @property
    def outputs(self) -> Mapping[str, tuple[str | None, ...]]:
        """The names of the new values, for each leaf; None where nothing reads it."""
        results = self.call.results
        return {what: tuple(n[0].name if n else None for n in results[row]) for what, row in self.rows.items()}


def updates(graph: Graph) -> tuple[UpdateCall, ...]:
    """All updates of a graph, in order.

    Raises:
        GraphError: a leaf is updated twice from the same value.
    """
    found = tuple(read_update(graph, node) for node in graph.nodes if is_update(node))
    owner: dict[str, str] = {}
    for call in found:
        for leaf, param in zip(call.leaves, call.params, strict=True):
            if param in owner:
                raise GraphError(
                    f"{call.call.node.where} updates leaf {leaf!r}, which {owner[param]!r} updates, too: update each "
                    "leaf once, or let the second update read what the first one gave."
                )
            owner[param] = call.name
    return found


def is_update(node: Node) -> bool:
    """Whether a node is an update; those that overwrite are none."""
    return node.target is UPDATE or getattr(node.target, "overloadpacket", None) in FUSED


def read_update(graph: Graph, node: Node) -> UpdateCall:
    """Reads an update.

    Args:
        graph: the graph.
        node: an update, by `funpipe_optim.update` or by `_fused_adam`, `_fused_adamw` or `_fused_sgd` of torch.

    Returns:
        Its parameters, gradients, slots and settings, whichever operator it is.

    Raises:
        GraphError: the node is no such update, or something reads a whole list of its results.

    Example:
        >>> import torch, funpipe as fp
        >>> def step(w, x):
        ...     return fp.optim.apply(fp.optim.sgd(0.5), {"w": w}, {"w": x}, {}, torch.tensor(0))[0]["w"], {}
        >>> graph = fp.trace_step(step, torch.ones(2), torch.ones(2)).graph
        >>> call = read_update(graph, graph.node("update"))
        >>> call.params, call.grads, call.settings["optimizer"], call.outputs
        (('state.',), ('batch.',), 'sgd(lr=0.5)', {'params': ('getitem',)})
    """
    if not is_update(node):
        raise GraphError(f"{node.where} is no update: pass the node of one, such as those whose names hold 'update'.")
    call = read_lists(graph, node)
    return _own(graph, call) if node.target is UPDATE else _fused(graph, call)


def _own(graph: Graph, call: ListCall) -> UpdateCall:
    paths = [".".join(path) for path in slot_paths(graph.objects[call.others["optimizer"]])]
    params = _names(call.lists["params"][0])
    return UpdateCall(
        call=call,
        kind="update",
        leaves=tuple(map(leaf_name, params)),
        params=params,
        grads=_names(call.lists["grads"][0]),
        slots={path: _names(row) for path, row in zip(paths, call.lists["slots"], strict=True)},
        steps=_names([call.others["step"]]),
        settings={name: value for name, value in call.others.items() if name != "step"},
        rows={"params": 0, **{path: 1 + j for j, path in enumerate(paths)}},
    )


def _fused(graph: Graph, call: ListCall) -> UpdateCall:
    packet = call.node.target.overloadpacket
    kept = [name for name in FUSED[packet] if call.lists[name]]
    params = _names(call.lists["self"][0])
    return UpdateCall(
        call=call,
        kind=packet.__name__,
        leaves=tuple(map(leaf_name, params)),
        params=params,
        grads=_names(call.lists["grads"][0]),
        slots={name: _names(call.lists[name][0]) for name in kept},
        steps=_names(call.lists["state_steps"][0]) if "state_steps" in call.lists else (),
        settings=call.others,
        rows={"params": 0, "grads": 1, **{n: 2 + j for j, n in enumerate(FUSED[packet]) if n in kept}},
    )


def _names(row: Any) -> tuple[str, ...]:
    return tuple(ref.name for ref in row if isinstance(ref, Ref))


def leaf_name(value: str) -> str:
    """How a leaf is called: a state's leaf without its prefix, any other value by its own name.

    Example:
        >>> leaf_name("state.params.0.weight")
        'params.0.weight'
    """
    return value.removeprefix("state.")
