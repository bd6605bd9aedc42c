"""Parts of a model that run without gradients or under autocast.

A capture keeps each of them as a graph of its own, called by an operator of higher order. Here they become modules that
an ordinary function calls, so that they pickle and can be told whether the model is training.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from funpipe.interop.pipelining._IR.graphs import copied
from funpipe.interop.pipelining._IR.marks import is_mark
from funpipe.interop.pipelining._IR.reads import read_again
from funpipe.interop.pipelining._IR.stage_module import StageModule
from funpipe.interop.pipelining._IR.train_flags import follow_modules
from funpipe.interop.pipelining.errors import PipeValueError


def under_grad_mode(enabled: bool, body: Callable[..., Any], *values: Any) -> Any:
    """Calls a part of a model with gradients on or off.

    Args:
        enabled: whether they are on.
        body: the part.
        values: its arguments.

    Example:
        >>> under_grad_mode(False, lambda x: x * 2, torch.ones(1, requires_grad=True)).requires_grad
        False
    """
    with torch.set_grad_enabled(enabled):
        return body(*values)


def under_autocast(
    device_type: str,
    dtype: torch.dtype | None,
    enabled: bool,
    cache: bool | None,
    body: Callable[..., Any],
    *values: Any,
) -> Any:
    """Calls a part of a model under autocast.

    Args:
        device_type: what `torch.autocast` is given, as are the next three.
        dtype: of the operators that are cast down.
        enabled: whether it is on.
        cache: whether casts of parameters are kept.
        body: the part.
        values: its arguments.

    Example:
        >>> under_autocast("cpu", torch.bfloat16, True, None, lambda x: x @ x, torch.ones(2, 2)).dtype
        torch.bfloat16
    """
    with torch.autocast(device_type, dtype=dtype, enabled=enabled, cache_enabled=cache):
        return body(*values)


_CALLED_BY = {"wrap_with_set_grad_enabled": under_grad_mode, "wrap_with_autocast": under_autocast}


def rewrite_regions(
    graph: fx.Graph, bodies: dict[str, nn.Module], modes: dict[str, bool], flag: Callable[[str], fx.Node]
) -> None:
    """Gives every such part of a graph its module and its function, in place.

    Args:
        graph: the graph.
        bodies: the modules that the graph names, by name; changed to what they become.
        modes: for each module of the model by name whether it was training when it was captured.
        flag: the node that says whether a module is training.

    Raises:
        PipeValueError: a stage ends inside such a part.
    """
    for node in graph.nodes:
        function = _CALLED_BY.get(str(node.target))
        if node.op != "call_function" or function is None:
            continue
        place = next(i for i, arg in enumerate(node.args) if isinstance(arg, fx.Node) and arg.op == "get_attr")
        name = node.args[place].target
        bodies[name], flags = _body(bodies[name], modes)
        node.target = function
        node.args = (*node.args, *(flag(path) for path in flags))


def _body(module: Any, modes: dict[str, bool]) -> tuple[nn.Module, list[str]]:
    """The module of a part, and the modules whose training flags it takes as further arguments."""
    graph, flags = copied(module.graph), {}
    if any(is_mark(node) for node in graph.nodes):
        raise PipeValueError(
            "a stage ends inside a `with torch.autocast` or `with torch.no_grad` block, which cannot be on two stages; "
            "put the split outside of the block."
        )
    behind = [node for node in graph.nodes if node.op == "placeholder"]

    def flag(path: str) -> fx.Node:
        if path not in flags:
            with graph.inserting_after(behind[-1]) if behind else graph.inserting_before():
                flags[path] = graph.placeholder(f"training_{len(flags)}")
            behind.append(flags[path])
        return flags[path]

    read_again(graph)
    inner = dict(module.named_children())
    rewrite_regions(graph, inner, modes, flag)
    follow_modules(graph, modes, flag)
    return StageModule(graph, None, inner), list(flags)
