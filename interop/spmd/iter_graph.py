"""`IterGraph`: the graph of one step, and which of its nodes are to run in the next step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from funpipe.interop.spmd.errors import SpmdRuntimeError, SpmdValueError
from funpipe.interop.spmd.graph_utils import is_leaf_subgraph

HOLD = "__hold__"
"""The user that a node has which nothing reads and which stays nevertheless."""

OPTIMIZER = "__optimizer__"
"""That of an update of an optimizer."""


@dataclass(frozen=True)
class Move:
    """Work that is to run in the next step.

    Args:
        nodes: the work.
        target: what it is to stand before there.
    """

    nodes: tuple[fx.Node, ...]
    target: fx.Node


class IterGraph(fx.Graph):
    """The graph of one whole step that users edit, as they would any graph of fx, and a list of moves across steps.

    There is one graph. The three that run (first step, any other, last) are derived from it when its module is
    recompiled, so no edit, through these methods or past them, can make them differ.

    Args:
        orig_graph: is copied; nodes keep their names.
    """

    def __init__(self, orig_graph: fx.Graph) -> None:
        super().__init__()
        copies: dict[fx.Node, fx.Node] = {}
        for node in orig_graph.nodes:
            copies[node] = self.node_copy(node, copies.__getitem__)
        self.moves: list[Move] = []
        self.held: dict[fx.Node, dict[Any, None]] = {}
        self.frozen = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "IterGraph":
        copy = IterGraph(self)
        nodes = dict(zip(self.nodes, copy.nodes, strict=True))
        copy.moves = [Move(tuple(nodes[n] for n in move.nodes), nodes[move.target]) for move in self.moves]
        copy.held = {nodes[node]: dict(users) for node, users in self.held.items()}
        copy.frozen = self.frozen
        memo[id(self)] = copy  # type: ignore[assignment]
        return copy

    def move_to_next_iter_before(self, subgraph: Sequence[fx.Node], target_node: fx.Node) -> None:
        """Has nodes run in the next step, before a node there.

        Whether the target may come that late is checked when the module is recompiled or finalized: no node before it
        may read what the moved nodes make.

        Args:
            subgraph: nodes of this graph; only they and the output may read what they make.
            target_node: of this graph.

        Raises:
            SpmdRuntimeError: the graph is frozen.
            SpmdValueError: a node is not of this graph, or is no call, or another one reads what is moved.
        """
        if self.frozen:
            raise SpmdRuntimeError(
                "The cross-iteration movement has been frozen for the given IterGraph. Move nodes before "
                "finalize_setup()."
            )
        self._check_own((*subgraph, target_node))
        if not subgraph or not is_leaf_subgraph(self, subgraph):
            raise SpmdValueError(
                "The target nodes for ``move_to_next_iter_before`` must satisfy one of the following conditions: "
                "1) the user of the node is in the target nodes, 2) the user is the output of the graph, 3) there are "
                f"no users -- the node is a side-effect node. {self._remedy(subgraph)}"
            )
        self.moves.append(Move(tuple(subgraph), target_node))

    def _remedy(self, subgraph: Sequence[fx.Node]) -> str:
        for node in subgraph:
            for user in node.users:
                if isinstance(user, fx.Node) and user.op != "output" and user not in subgraph:
                    return f"{user.name!r} reads {node.name!r}: move it, too (find_all_descendants lists all of them)."
        return "No node is given: give at least one."

    def _check_own(self, nodes: Sequence[fx.Node]) -> None:
        for node in nodes:
            if node.graph is not self:
                raise SpmdValueError(f"{node.name!r} is a node of another graph; take it from this one's nodes.")
        for node in nodes[:-1]:
            if node.op != "call_function":
                raise SpmdValueError(
                    f"{node.name!r} is no call of an operator, and only those can be moved; leave it out."
                )

    def move_before(self, nodes: Sequence[fx.Node], target_node: fx.Node) -> None:
        """Moves nodes before another one, in their order."""
        for node in nodes:
            target_node.prepend(node)

    def move_after(self, nodes: Sequence[fx.Node], target_node: fx.Node) -> None:
        """Moves nodes behind another one, in their order."""
        for node in reversed(nodes):
            target_node.append(node)

    def node_prepend(self, target_node: fx.Node, node: fx.Node) -> None:
        """Moves a node before another one."""
        target_node.prepend(node)

    def node_append(self, target_node: fx.Node, node: fx.Node) -> None:
        """Moves a node behind another one."""
        target_node.append(node)

    def node_set_args(self, node: fx.Node, args: tuple[Any, ...]) -> None:
        """Gives a node other arguments."""
        node.args = args

    def node_set_kwargs(self, node: fx.Node, kwargs: Mapping[str, Any]) -> None:
        """Gives a node other arguments by name."""
        node.kwargs = dict(kwargs)

    def node_replace_all_uses_with(
        self,
        node: fx.Node,
        replace_with: fx.Node,
        delete_user_cb: Callable[[fx.Node], bool] = lambda user: True,
        *,
        propagate_meta: bool = False,
    ) -> list[fx.Node]:
        """Has readers of a node read another one; returns those readers."""
        return node.replace_all_uses_with(replace_with, delete_user_cb, propagate_meta=propagate_meta)

    def node_add_user(self, node: fx.Node, user: Any) -> None:
        """Keeps a node that nothing reads, as if `user` read it."""
        self.held.setdefault(node, {})[user] = None

    def node_remove_user(self, node: fx.Node, user: Any) -> None:
        """Undoes `node_add_user`."""
        users = self.held.get(node, {})
        users.pop(user, None)
        if not users:
            self.held.pop(node, None)

    def erase_node(self, to_erase: fx.Node) -> None:
        """Erases a node that nothing reads."""
        super().erase_node(to_erase)
        self.held.pop(to_erase, None)

    def keep_unused_nodes(self) -> None:
        """Keeps all nodes that nothing reads."""
        for node in self.nodes:
            if not node.users and node.op != "output":
                self.node_add_user(node, HOLD)

    def functionalize_optim(self) -> None:
        """Keeps fused updates that overwrite their arguments, which nothing reads."""
        for node in self.nodes:
            if node.name.startswith(("_fused_adam_", "_foreach_add_")) and not node.users:
                self.node_add_user(node, OPTIMIZER)

    def defunctionalize_optim(self) -> None:
        """Undoes `functionalize_optim`."""
        for node in list(self.held):
            self.node_remove_user(node, OPTIMIZER)

    def eliminate_dead_code(self, is_impure_node: Callable[[fx.Node], bool] | None = None) -> bool:
        """Drops what nothing reads and nobody keeps; returns whether there was anything."""
        impure = is_impure_node or fx.Node.is_impure
        return super().eliminate_dead_code(lambda node: node in self.held or impure(node))

    def freeze_cross_iter_movement(self) -> None:
        """From here on nothing can be moved to the next step."""
        self.frozen = True
