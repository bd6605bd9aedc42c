"""The graph that calls the stages one after the other, and the backward passes behind it if the model has its loss."""

import operator
from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from funpipe.interop.pipelining._IR.calling import Calling
from funpipe.interop.pipelining._IR.submodule_names import get_submod_name
from funpipe.interop.pipelining.wiring import Argument


def pipeline_graph(
    stages: Sequence[nn.Module],
    wiring: Sequence[tuple[Argument, ...]],
    calling: Calling,
    loss: tuple[Any, ...] | None,
) -> fx.GraphModule:
    """The module `submod_pp_0`, `submod_pp_1`, … and the graph of their calls.

    Args:
        stages: the stages' modules.
        wiring: where the inputs of each stage come from.
        calling: the model's arguments.
        loss: what to index the last stage's result with to get the loss; None: there is none.
    """
    graph = fx.Graph()
    arguments = {calling.key(i): graph.placeholder(name) for i, name in enumerate(calling.names)}
    calls: list[fx.Node] = []
    values: dict[Argument, fx.Node] = {Argument(None, key): node for key, node in arguments.items()}
    for stage, sources in enumerate(wiring):
        call = graph.call_module(get_submod_name(stage), tuple(values[source] for source in sources))
        calls.append(call)
        values |= _outputs(graph, call, stage, _counts(wiring, stage))
    if loss is not None:
        last = calls[-1]
        for step in loss:
            last = graph.call_function(operator.getitem, (last, step))
        _add_backward(graph, calls, wiring, values, last)
    graph.output(calls[-1])
    root = nn.Module()
    for stage, module in enumerate(stages):
        root.add_module(get_submod_name(stage), module)
    return fx.GraphModule(root, graph)


def _counts(wiring: Sequence[tuple[Argument, ...]], stage: int) -> int:
    """How many results of a stage later ones read: all that it has, unless it is the last."""
    return len({source for sources in wiring for source in sources if source.stage == stage})


def _outputs(graph: fx.Graph, call: fx.Node, stage: int, count: int) -> dict[Argument, fx.Node]:
    if count == 1:
        return {Argument(stage, 0): call}
    parts = [graph.call_function(operator.getitem, (call, index)) for index in range(count)]
    return {Argument(stage, index): part for index, part in enumerate(parts)}


def _add_backward(
    graph: fx.Graph,
    calls: list[fx.Node],
    wiring: Sequence[tuple[Argument, ...]],
    values: dict[Argument, fx.Node],
    loss: fx.Node,
) -> None:
    """Puts in the backward pass of each stage, the last one's first."""
    from funpipe.interop.pipelining._backward import stage_backward

    grads: dict[Argument, fx.Node] = {}
    outputs: Any = loss
    given: Any = None
    for stage in reversed(range(len(calls))):
        if stage < len(calls) - 1:
            keys = [Argument(stage, index) for index in range(_counts(wiring, stage))]
            outputs, given = tuple(values[key] for key in keys), tuple(grads[key] for key in keys)
        inputs = list(calls[stage].args)
        arguments = {"stage_output": outputs, "output_grads": given, "input_values": inputs}
        call = graph.call_function(stage_backward, kwargs=arguments)
        call.meta["stage"] = get_submod_name(stage)
        _collect(graph, grads, wiring[stage], call)


def _collect(graph: fx.Graph, grads: dict[Argument, fx.Node], sources: tuple[Argument, ...], backward: fx.Node) -> None:
    """Adds the gradients of a stage's inputs to those that other stages gave for the same values."""
    for index, source in enumerate(sources):
        if source.stage is not None:
            grad = graph.call_function(operator.getitem, (backward, index))
            before = grads.get(source)
            grads[source] = grad if before is None else graph.call_function(sum_of_grads, (before, grad))


def sum_of_grads(one: Any, other: Any) -> Any:
    """The sum of two gradients, of which None is nothing.

    Args:
        one: a tensor or None.
        other: likewise.

    Example:
        >>> sum_of_grads(None, 2), sum_of_grads(1, 2)
        (2, 3)
    """
    if one is None or other is None:
        return other if one is None else one
    return one + other
