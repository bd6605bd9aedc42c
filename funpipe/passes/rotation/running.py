"""The three functions of a rotated step: a graph behind each, the user's trees in front."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from optree import PyTreeSpec

from funpipe._errors import FunpipeTypeError
from funpipe._typing import Tree
from funpipe.functional.pending import Clean, Pending
from funpipe.functional.tree import check_same, named_leaves, unflatten_named
from funpipe.graphs.step import Step
from funpipe.passes.rotation.finding import STATE
from funpipe.passes.rotation.graphs import CARRY, RotatedGraphs

Values = Mapping[str, Any]
"""Tensors by the names that graphs give them."""


@dataclass(frozen=True, eq=False)
class Run:
    """The graphs as functions, and the trees around them.

    Args:
        graphs: the three graphs.
        trees: the step that they were made of.
        first, main, flush: run them, from inputs by name to outputs by name.
        together: what the arguments are checked in: with several ranks an error is told to the others.
    """

    graphs: RotatedGraphs
    trees: Step
    first: Callable[[Values], Values]
    main: Callable[[Values], Values]
    flush: Callable[[Values], Values]
    together: Callable[[], AbstractContextManager[None]] = nullcontext

    def leaves(self, what: str, tree: Tree) -> dict[str, Any]:
        """The leaves of a state or a batch by the names of inputs; raises where they are not as they were traced."""
        check_same(self.trees.types(what), tree, what)
        return {f"{what}.{name}": leaf for name, leaf in named_leaves(tree, what)[0].items()}


@dataclass(frozen=True, eq=False)
class Starting:
    """`init` of a rotated step."""

    run: Run

    def __call__(self, state: Tree) -> Clean:
        """Takes a state into the rotated step.

        Args:
            state: a tree as the step takes it.

        Returns:
            The state, with nothing open.

        Raises:
            TreeError: a leaf is missing, unknown, or of another shape or dtype.
        """
        with self.run.together():
            self.run.leaves("state", state)
        return Clean(state)


@dataclass(frozen=True, eq=False)
class Stepping:
    """`step` of a rotated step."""

    run: Run

    def __call__(self, state: Clean | Pending, batch: Tree) -> tuple[Pending, Tree]:
        """Runs a step; what was deferred in the step before is done on the way.

        Args:
            state: what init, step or flush gave.
            batch: as for the step.

        Returns:
            The state, and the step's other results.
        """
        run = self.run
        with run.together():
            state, rows = _known(state), run.leaves("batch", batch)
            whole = run.leaves("state", state.state) if isinstance(state, Clean) else {}
        if isinstance(state, Pending):
            with state.taken() as values:
                found = run.main(values | rows)
        else:
            found = run.first(whole | rows)
        kept = {n: v for n, v in found.items() if n.startswith(STATE)}
        carry = {n: v for n, v in found.items() if n.startswith(CARRY)}
        return Pending(kept, carry, run.graphs.late), _tree(run.trees.aux, found, "aux.")


@dataclass(frozen=True, eq=False)
class Flushing:
    """`flush` of a rotated step."""

    run: Run

    def __call__(self, state: Clean | Pending) -> Clean:
        """Does what is still open.

        Args:
            state: what init, step or flush gave.

        Returns:
            The whole state.
        """
        with self.run.together():
            state = _known(state)
        if isinstance(state, Clean):
            return state
        with state.taken() as values:
            found = self.run.flush(values)
        return Clean(_tree(self.run.trees.state, found, STATE))


def _tree(spec: PyTreeSpec, values: Values, prefix: str) -> Tree:
    return unflatten_named(spec, {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)})


def _known(state: Any) -> Clean | Pending:
    if not isinstance(state, Clean | Pending):
        raise FunpipeTypeError(
            f"a rotated step takes what its init, step or flush returned, and was given a {type(state).__name__}: "
            "begin with state = rotated.init(state)."
        )
    if isinstance(state, Pending):
        state.require_unused()
    return state
