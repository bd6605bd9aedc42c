"""`rotate`: a step as three pure functions of states that are whole or pending."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

from funpipe._errors import FunpipeTypeError
from funpipe._typing import Tree
from funpipe.functional.pending import Clean, Pending
from funpipe.graphs.graph import Graph
from funpipe.graphs.interpret import interpret
from funpipe.graphs.step import Step
from funpipe.passes.rotation.cut import rotated
from funpipe.passes.rotation.graphs import RotatedGraphs
from funpipe.passes.rotation.running import Flushing, Run, Starting, Stepping, Values
from funpipe.passes.rotation.selectors import Defer

Runner = Callable[[Graph], Callable[[Values], Values]]
"""Makes a function of a graph: from its inputs by name to its outputs by name."""


class Rotated(NamedTuple):
    """A rotated step; made by `rotate`.

    With F the step and `fold` its repetition, `flush(fold(step, init(s), xs))` is `fold(F, s, xs)` to the bit, for any
    number of batches; a flushed state may go on.

    Args:
        init: `init(state) -> Clean`.
        step: `step(Clean | Pending, batch) -> (Pending, aux)`.
        flush: `flush(Clean | Pending) -> Clean`.
    """

    init: Callable[[Tree], Clean]
    step: Callable[[Clean | Pending, Tree], tuple[Pending, Tree]]
    flush: Callable[[Clean | Pending], Clean]

    @property
    def graphs(self) -> RotatedGraphs:
        """The three graphs."""
        return self.step.run.graphs  # type: ignore[attr-defined]

    @property
    def trees(self) -> Step:
        """The step that was rotated: the structures of its trees, and its graph."""
        return self.step.run.trees  # type: ignore[attr-defined]

    def map(self, function: Callable[[Graph], Graph]) -> "Rotated":
        """The same step with each of its three graphs through a pass.

        Args:
            function: a pass or a composition of some.

        Returns:
            A step that the interpreter runs.
        """
        return rotated_of(self.graphs.map(function), self.trees)

    def __repr__(self) -> str:
        return f"Rotated({len(self.graphs.late)} leaves late, {len(self.graphs.carry)} values carried)"


def rotate(step: Step, defer: Defer, before: str | None = None) -> Rotated:
    """Moves chosen work of a step into the next step, just before its first reader.

    Args:
        step: what `fp.trace_step` gives, with or without passes; not yet donated.
        defer: the work: `passes.waits(0)`, `passes.collectives(0)`, `passes.updates(names)`,
            `passes.closure_of(predicate)`, a predicate of nodes, or names of nodes.
        before: the node in front of which the work runs in the next step; None: by data flow.

    Returns:
        `(init, step, flush)`, run by the interpreter; `fp.compile_step(rotated)` compiles it.

    Raises:
        RotateError: the work cannot be deferred; the text names what reads it.
        FunpipeTypeError: it is no traced step.

    Example:
        >>> import torch, funpipe as fp
        >>> def train(w, x):
        ...     loss, grad = torch.func.grad_and_value(lambda w: (w * x).square().sum())(w)[::-1]
        ...     return w - 0.1 * grad, loss
        >>> w, x = torch.tensor([1.0]), torch.tensor([1.0])
        >>> traced = fp.trace_step(train, w, x)
        >>> init, step, flush = rotate(traced, lambda node: node.name == "sub")
        >>> state, loss = step(init(w), x)
        >>> state, loss = step(state, x)
        >>> flush(state).state
        tensor([0.6400])
    """
    if not isinstance(step, Step):
        instead = (
            "passes.rotated(graph, defer)" if isinstance(step, Graph) else "what fp.trace_step or as_graph() gives"
        )
        raise FunpipeTypeError(f"rotate takes a traced step, and was given a {type(step).__name__}: use {instead}.")
    return rotated_of(rotated(step.graph, defer, before), step)


def rotated_of(
    graphs: RotatedGraphs,
    trees: Step,
    runner: Runner | None = None,
    together: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Rotated:
    """The three functions of a rotated step's graphs.

    Args:
        graphs: the graphs.
        trees: the step they were made of.
        runner: makes a function of a graph, which knows constants and this rank's place; by default the interpreter.
        together: what arguments are checked in; with several ranks it tells an error to the others.

    Returns:
        `(init, step, flush)`.

    Example:
        >>> import torch, funpipe as fp
        >>> traced = fp.trace_step(lambda w, x: (w - 0.1 * x, x.sum()), torch.ones(2), torch.ones(2))
        >>> graphs = fp.passes.rotated(traced.graph, {"sub"})
        >>> def runner(graph):
        ...     return lambda given: fp.graphs.interpret(graph, given)
        >>> init, step, flush = rotated_of(graphs, traced, runner)
        >>> flush(step(init(torch.ones(2)), torch.ones(2))[0]).state
        tensor([0.9000, 0.9000])
    """
    make = runner or (lambda graph: partial(interpret, graph))
    run = Run(graphs, trees, make(graphs.first), make(graphs.main), make(graphs.flush), together)
    return Rotated(Starting(run), Stepping(run), Flushing(run))
