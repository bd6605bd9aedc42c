"""`Step`: the graph of a whole training step, and the trees that its inputs and outputs are the leaves of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from optree import PyTreeSpec
from torch import Tensor

from funpipe._errors import GraphError
from funpipe._typing import MeshShape, TensorType, Tree
from funpipe.functional.tree import check_same, named_leaves, unflatten_named
from funpipe.graphs.graph import Graph, require_graph

AXES = {"axis.dp": "dp", "axis.pp": "pp"}
"""The inputs that say where on the mesh a rank is; a graph has those that it reads."""


@dataclass(frozen=True, eq=False)
class Step:
    """A traced step `(state, batch) -> (state, aux)`; `fp.trace_step` makes one.

    The leaves of the state are inputs and outputs of the graph, `state.LEAF`; those of the batch are inputs,
    `batch.LEAF`; those of the other results are outputs, `aux.LEAF`. LEAF is empty where a tree is one leaf.

    Args:
        graph: the graph, the same on every rank of the mesh.
        state: the structure of the state.
        batch: the structure of the batch.
        aux: the structure of the other results.
        mesh: that it was traced for.
        messages: what the graph's messages carry, by their numbers; of a pipelined step, whose ranks have graphs of
            their own.
    """

    graph: Graph
    state: PyTreeSpec
    batch: PyTreeSpec
    aux: PyTreeSpec
    mesh: MeshShape
    messages: tuple[Any, ...] = ()

    def map(self, function: Callable[[Graph], Graph]) -> "Step":
        """The step with another graph of the same inputs and outputs.

        Args:
            function: from the graph to the new one, such as a pass.

        Raises:
            GraphError: an input is new, or the outputs have other names.
            FunpipeTypeError: the function gives no graph.
        """
        graph = function(self.graph)
        require_graph(graph, "Step.map")
        _check_names(self.graph, graph)
        return replace(self, graph=graph)

    def inputs(self, state: Tree, batch: Tree, place: Mapping[str, int] | None = None) -> dict[str, Tensor]:
        """The inputs of the graph, by name, from the trees.

        Args:
            state: a tree as at tracing: the same names, shapes and dtypes.
            batch: likewise.
            place: this rank's place along "dp" and "pp"; 0 by default.

        Returns:
            A tensor for each input but constants.

        Raises:
            TreeError: a leaf is missing, unknown, or of another shape or dtype.
            GraphError: no place is given on a mesh of more than one rank, and the graph reads it.
        """
        given = {
            f"{what}.{n}": t for what, tree in (("state", state), ("batch", batch)) for n, t in self._of(what, tree)
        }
        return given | {n: self._place(n, place) for n in AXES if n in self.graph.inputs}

    def results(self, outputs: Mapping[str, Any]) -> tuple[Tree, Tree]:
        """The trees from the outputs of the graph.

        Args:
            outputs: a value for each output, by name.

        Returns:
            The new state and the other results.
        """
        state = unflatten_named(self.state, _named(outputs, "state."), "the new state")
        return state, unflatten_named(self.aux, _named(outputs, "aux."), "aux")

    def types(self, what: str) -> dict[str, TensorType]:
        """The types of the leaves of a tree by name.

        Args:
            what: `"state"` or `"batch"`.
        """
        return _named(self.graph.inputs, f"{what}.")

    def as_text(self) -> str:
        """The graph as text."""
        return self.graph.as_text()

    def __str__(self) -> str:
        return self.as_text()

    def __repr__(self) -> str:
        return f"Step({self.graph!r}, pp={self.mesh.pp}, dp={self.mesh.dp})"

    def _of(self, what: str, tree: Tree) -> list[tuple[str, Tensor]]:
        check_same(self.types(what), tree, what)
        return list(named_leaves(tree, what)[0].items())

    def _place(self, name: str, place: Mapping[str, int] | None) -> Tensor:
        if place is None and self.mesh.pp * self.mesh.dp > 1:
            raise GraphError(
                f"the step reads {name!r}, this rank's place on the mesh: pass it, such as "
                "step.inputs(state, batch, {'dp': mesh.dp_rank, 'pp': mesh.pp_rank})."
            )
        return torch.tensor((place or {}).get(AXES[name], 0))


def _named(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _check_names(before: Graph, after: Graph) -> None:
    new = [name for name in after.inputs if name not in before.inputs and name not in after.constants]
    if new:
        raise GraphError(f"the new graph takes {new[0]!r}, which the step does not: make it a constant of the graph.")
    changed = sorted(before.outputs.keys() ^ after.outputs.keys())
    if changed:
        raise GraphError(f"the new graph and the old differ in the output {changed[0]!r}: keep the names of outputs.")
