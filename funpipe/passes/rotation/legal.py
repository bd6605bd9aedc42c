"""What may be deferred: whatever nothing but the new state depends on, and no message between stages."""

import operator

from funpipe._errors import RotateError
from funpipe.graphs.communication import is_message, is_start, is_wait
from funpipe.graphs.effects import writes
from funpipe.graphs.graph import Graph
from funpipe.graphs.node import Node, refs_in
from funpipe.graphs.search import ancestors
from funpipe.passes.rotation.finding import STATE


def without_parts(graph: Graph, names: frozenset[str]) -> frozenset[str]:
    """The chosen nodes without the parts of a result that stays: only whole tensors go from step to step.

    Args:
        graph: the graph.
        names: the chosen nodes.
    """
    kept = set(names)
    for node in graph.nodes:
        if node.name in kept and node.target is operator.getitem and node.reads[0] not in kept:
            kept.discard(node.name)
    return frozenset(kept)


def require_legal(graph: Graph, tail: frozenset[str]) -> None:
    """Raises unless a step may be cut in front of these nodes.

    Args:
        graph: the step.
        tail: the names of the nodes to be deferred.

    Raises:
        RotateError: something that stays reads what is deferred, or the graph is of no kind that can be cut.
    """
    if not tail:
        raise RotateError(
            "only parts of a result were chosen, and the operator that gives them stays: defer the operator, too, as "
            "passes.updates and passes.closure_of do."
        )
    _require_state(graph)
    for node in graph.nodes:
        _require_functional(node)
        if node.name in tail and is_message(node):
            raise RotateError(_message_text(graph, node, tail))
        if node.name not in tail:
            _require_apart(graph, node, tail)
    _require_outputs(graph, tail)


def _require_state(graph: Graph) -> None:
    taken = {name for name in graph.inputs if name.startswith(STATE)}
    given = {name for name in graph.outputs if name.startswith(STATE)}
    for name in sorted(taken ^ given):
        there, missing = ("takes", "gives") if name in taken else ("gives", "takes")
        raise RotateError(
            f"the step {there} {name!r} and never {missing} it, so its state cannot go on to the next step: let the "
            "step return a state with the leaves that it takes."
        )


def _require_functional(node: Node) -> None:
    written = writes(node)
    if written and not is_message(node):
        raise RotateError(
            f"{node.where} overwrites %{written[0]}: rotate the step before passes.donate(), and donate in the three "
            "graphs that rotating gives."
        )


def _require_apart(graph: Graph, node: Node, tail: frozenset[str]) -> None:
    """A node that stays reads nothing that is deferred."""
    for name in node.reads:
        if name not in tail:
            continue
        maker = graph.node(name)
        if is_message(node):
            raise RotateError(
                f"{node.where} sends %{name} to another stage in this step, but {maker.where} is deferred: leave it "
                "out of defer (a leaf that several stages use is updated in its own step)."
            )
        if is_start(maker):
            raise RotateError(
                f"{maker.where} is deferred, but {node.where} waits for it in this step: defer both, as "
                "passes.collectives does, or the wait alone, as passes.waits does."
            )
        raise RotateError(
            f"{node.where} reads %{name} in this step, but {maker.where}, which makes it, is deferred: defer "
            f"{node.name!r} with all behind it, too, as passes.closure_of does, or leave {name!r} out of defer."
        )


def _message_text(graph: Graph, node: Node, tail: frozenset[str]) -> str:
    cause = next((f" because it reads %{name}" for name in node.reads if name in tail), "")
    return (
        f"{node.where} carries a message between stages, and was chosen{cause}; another stage waits for it in this "
        "step: leave what it depends on out of defer (a leaf that several stages use is updated in its own step)."
    )


def _require_outputs(graph: Graph, tail: frozenset[str]) -> None:
    for output, value in graph.outputs.items():
        late = [ref.name for ref in refs_in(value) if ref.name in tail]
        if late and not output.startswith(STATE):
            maker, made_of = graph.node(late[0]), _made_of(graph, late[0], tail)
            raise RotateError(
                f"the output {output!r} is %{maker.name}, but {maker.where}, which makes it, is deferred, and an "
                f"output is wanted in its own step: leave {maker.name!r} out of defer{made_of}, or do not return it."
            )


def _made_of(graph: Graph, name: str, tail: frozenset[str]) -> str:
    """Which collective a deferred value is made of, by the number that selectors give it."""
    needed = ancestors(graph, [name])
    numbered = enumerate(node for node in graph.nodes if is_start(node))
    waited = {n.reads[0] for n in graph.nodes if is_wait(n) and n.name in tail and n.name in needed}
    waited |= {graph.by_name[n].reads[0] for n in waited if n in graph.by_name and not is_start(graph.by_name[n])}
    found = [str(number) for number, start in numbered if start.name in waited]
    return f" (it is made of collective {', '.join(found)})" if found else ""
