"""A stage whose backward computes again what its forward does not save."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import fx

from funpipe._typing import TensorType
from funpipe.stages.save import save
from funpipe.stages.saved import nodes_of, returned
from funpipe.stages.stage import Region, Stage
from funpipe.tracing.identifier import identifier
from funpipe.tracing.operators import is_view


def recompute(stage: Stage, saved: Iterable[fx.Node], again: Iterable[fx.Node], others: frozenset[str]) -> Stage:
    """Rewrites a stage for a choice of what is saved.

    Args:
        stage: a stage with a backward.
        saved: the nodes of its forward that the backward gets.
        again: those that the backward computes again, and the leaves that it needs for that.
        others: values that other stages read.

    Returns:
        The stage; its forward has the same inputs, its backward the same outputs.
    """
    assert stage.B is not None
    names = {node: name for name, node in returned(stage.F).items()}
    names |= dict(zip(nodes_of(stage), stage.F.inputs, strict=False))
    given = {names.get(n, n.name): n for n in (*saved, *(n for n in again if n.op == "placeholder"))}
    kept = {name: node for name, node in given.items() if node.op != "placeholder"}
    F = save(stage.F, kept, others | {*stage.results.values()})
    return replace(stage, F=F, B=_Backward(stage.B, returned(stage.F), given).region())


class _Backward:
    """Writes a backward that computes values again, each right before it is first read.

    So what is computed again for the first layers is not there yet while the last ones are differentiated.

    Args:
        before: the backward that got all it reads.
        made: the nodes that the forward returned for it and for others, by name.
        given: the nodes of the forward that this backward gets, by name.
    """

    def __init__(self, before: Region, made: dict[str, fx.Node], given: dict[str, fx.Node]) -> None:
        self.before, self.given = before, given
        self.old = dict(zip(before.inputs, before.module.graph.find_nodes(op="placeholder"), strict=True))
        self.inputs = tuple(dict.fromkeys([*(n for n in self.old if n in given or n not in made), *given]))
        self.lost = {node: made[name] for name, node in self.old.items() if name not in self.inputs}
        self.graph = fx.Graph()
        self.copies: dict[fx.Node, fx.Node] = {}
        self.views: dict[str, fx.Node] = {}

    def region(self) -> Region:
        """The new backward."""
        for i, name in enumerate(self.inputs):
            self._placeholder(i, name)
        for node in self.before.module.graph.nodes:
            for read in (r for r in node.all_input_nodes if r in self.lost and r not in self.copies):
                self.copies[read] = self._computed_again(self.lost[read])
            if node.op == "call_function":
                self.copies[node] = self._copy(node, node.name)
        self.graph.output(tuple(self.copies[n] for n in returned(self.before).values()))
        types = self.before.types | {name: TensorType.of(node.meta["val"]) for name, node in self.given.items()}
        types = {n: types[n] for n in (*self.inputs, *self.before.outputs)}
        return replace(self.before, module=fx.GraphModule({}, self.graph), inputs=self.inputs, types=types)

    def _placeholder(self, index: int, name: str) -> None:
        nodes = [part[name] for part in (self.old, self.given) if name in part]
        made = self.graph.placeholder(identifier(f"x{index}_{name}"))
        made.meta["val"] = nodes[0].meta["val"]
        self.copies |= dict.fromkeys(nodes, made)

    def _computed_again(self, node: fx.Node) -> fx.Node:
        waiting = [node]
        while waiting:
            missing = [n for n in waiting[-1].all_input_nodes if n not in self.copies]
            waiting += reversed(missing)
            if not missing:
                last = waiting.pop()
                if last not in self.copies:
                    self.copies[last] = self._copy(last, f"{last.name}_recomputed")
                    self.copies[last].meta["recomputed"] = True
        return self.copies[node]

    def _copy(self, node: fx.Node, name: str) -> fx.Node:
        """The node in the new graph; a view that is there already is not taken twice."""
        args: Any = fx.map_arg(node.args, self.copies.__getitem__)
        kwargs: Any = fx.map_arg(node.kwargs, self.copies.__getitem__)
        key = f"{node.target} {args} {kwargs}"
        if is_view(node) and key in self.views:
            return self.views[key]
        made = self.views[key] = self.graph.create_node(node.op, node.target, args, kwargs, name)
        made.meta = dict(node.meta)
        return made
