"""`compile_step`: a traced step, or a rotated one, as functions of the user's trees that run on this rank."""

from collections.abc import Sequence
from functools import partial
from typing import Any, overload

import optree
from optree import PyTreeSpec

from funpipe._errors import FunpipeTypeError, MeshError
from funpipe._typing import Tree
from funpipe.functional.tree import leaf_name, named_leaves, unflatten_named
from funpipe.graphs.graph import Graph
from funpipe.graphs.step import Step
from funpipe.passes.base import Pass
from funpipe.passes.compose import Pipeline, compose
from funpipe.passes.rotation.callables import Rotated, rotated_of
from funpipe.runtime.compiled_graph import Backend, CompiledGraph, Place, compile_graph, together
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.together import telling

Passes = Pass | Pipeline | Sequence[Pass]


class CompiledStep:
    """A traced step on this rank, ready to run; made by `compile_step`.

    Args:
        step: the traced step, as it was compiled.
        compiled: its graph, ready to run.
    """

    def __init__(self, step: Step, compiled: CompiledGraph) -> None:
        self.step, self.compiled = step, compiled
        self._state, self._batch = _Leaves(step.state, "state"), _Leaves(step.batch, "batch")
        self._new = [f"state.{leaf_name(path)}" for path in step.state.paths()]
        self._aux = [f"aux.{leaf_name(path)}" for path in step.aux.paths()]

    def __call__(self, state: Tree, batch: Tree) -> tuple[Tree, Tree]:
        """Runs one step; every rank calls it alike.

        Args:
            state: a tree as at tracing, of the same shapes and dtypes; consumed if the step donates it.
            batch: this rank's, a tree as at tracing, of the same shapes and dtypes.

        Returns:
            The new state, and the step's other results.

        Raises:
            TreeError, BatchError: a leaf is missing, unknown, or of another shape or dtype; the leaf is named.
            StateError: the state was consumed, or a step that used it did not finish.
            TransportError: another rank did not come, or an earlier step raised in its middle.
        """
        with telling(self.compiled.place.transport):
            values = self._state(state) | self._batch(batch)
        found = self.compiled(values)
        new = optree.tree_unflatten(self.step.state, [found[name] for name in self._new])
        return new, optree.tree_unflatten(self.step.aux, [found[name] for name in self._aux])

    @property
    def graph(self) -> Graph:
        """What runs, before it was compiled."""
        return self.step.graph

    def __repr__(self) -> str:
        inputs = self.compiled.inputs
        counts = f"{len(self._new)} leaves of state, {len(self._batch.names)} leaves of the batch"
        return f"CompiledStep({len(self.graph.nodes)} nodes, {counts}{', donated' if inputs.consumes else ''})"

    def as_text(self) -> str:
        """What runs: the compiled segments, and the source that calls them and communicates between them."""
        return self.compiled.as_text()


class _Leaves:
    """The leaves of a tree by the names of inputs; a tree like the traced one is taken apart without looking for names.

    Args:
        spec: the structure of the tree.
        what: `"state"` or `"batch"`.
    """

    def __init__(self, spec: PyTreeSpec, what: str) -> None:
        self.spec, self.what = spec, what
        self.names = [f"{what}.{leaf_name(path)}" for path in spec.paths()]

    def __call__(self, tree: Tree) -> dict[str, Any]:
        leaves, spec = optree.tree_flatten(tree)
        if spec != self.spec:  # the same names in another container are as good; else the error names the leaf
            named = unflatten_named(self.spec, named_leaves(tree, self.what)[0], what=self.what)
            leaves = optree.tree_leaves(named)
        return dict(zip(self.names, leaves, strict=True))


@overload
def compile_step(
    step: Step,
    *,
    mesh: Mesh | None = None,
    backend: Backend = "step",
    passes: Passes | None = None,
    spans: bool = False,
) -> CompiledStep: ...


@overload
def compile_step(
    step: Rotated,
    *,
    mesh: Mesh | None = None,
    backend: Backend = "step",
    passes: Passes | None = None,
    spans: bool = False,
) -> Rotated: ...


def compile_step(
    step: Step | Rotated,
    *,
    mesh: Mesh | None = None,
    backend: Backend = "step",
    passes: Passes | None = None,
    spans: bool = False,
) -> CompiledStep | Rotated:
    """Compiles a traced step for this rank; every rank calls it, and all of them wait for the slowest.

    The graph becomes one Python function: compiled code for what computes, and direct calls for what communicates, in
    the graph's order. Equal layers are compiled once on a machine. Nothing is communicated but a check that all ranks
    have the same graph, and whether all of them could compile it.

    Args:
        step: what `fp.trace_step` gives, with or without passes, or what `fp.rotate` makes of it.
        mesh: the processes, of the shape that the step was traced for; None: this process is alone.
        backend: `"step"`, or `"interpret"`, which runs the graph operator by operator and compiles nothing.
        passes: to be applied before.
        spans: whether what the step does shows in `torch.profiler`, by the modules and passes that it comes from; each
            span takes some microseconds.

    Returns:
        For a traced step a function `(state, batch) -> (state, aux)`. For a rotated one its three functions, compiled.

    Raises:
        MeshError: the mesh has another shape than the step, or the ranks' graphs differ.
        PassError: the passes do not fit.
        CompileError: torch cannot compile it, on this rank or on another.

    Example:
        >>> import torch, funpipe as fp
        >>> def step(w, x):
        ...     gradient, loss = torch.func.grad_and_value(lambda w: (x * w).square().mean())(w)
        ...     return w - 0.1 * gradient, {"loss": loss}
        >>> w, x = torch.ones(2), torch.ones(4, 2)
        >>> train = fp.compile_step(fp.trace_step(step, w, x), backend="interpret")
        >>> train(w, x)
        (tensor([0.9000, 0.9000]), {'loss': tensor(1.)})
    """
    if not isinstance(step, Step | Rotated):
        raise FunpipeTypeError(
            f"compile_step takes a traced step, and was given a {type(step).__name__}: pass "
            "fp.trace_step(step, state, batch), or what fp.rotate makes of one."
        )
    trees = step if isinstance(step, Step) else step.trees
    _check_mesh(trees, mesh)
    place = Place.of(mesh, trees.messages)
    if isinstance(step, Step):
        changed = together(place, lambda: _pipeline(passes)(step))
        return CompiledStep(changed, compile_graph(changed.graph, place, backend, spans=spans))
    graphs = together(place, lambda: step.graphs.map(_pipeline(passes)))
    names = {id(graphs.first): "the first step", id(graphs.main): "step", id(graphs.flush): "flush"}

    def runner(graph: Graph) -> CompiledGraph:
        return compile_graph(graph, place, backend, names[id(graph)], spans)

    return rotated_of(graphs, step.trees, runner, partial(telling, place.transport))


def _pipeline(passes: Passes | None) -> Pipeline:
    if isinstance(passes, Pipeline):
        return passes
    return compose(*(passes if isinstance(passes, Sequence) else () if passes is None else (passes,)))


def _check_mesh(step: Step, mesh: Mesh | None) -> None:
    found = (mesh.shape.pp, mesh.shape.dp) if mesh is not None else (1, 1)
    if found == (step.mesh.pp, step.mesh.dp):
        return
    given = f"mesh=fp.mesh(pp={found[0]}, dp={found[1]})" if mesh is not None else "mesh=None"
    raise MeshError(
        f"the step was traced for pp={step.mesh.pp}, dp={step.mesh.dp}, and compiled with {given}: trace it with "
        "fp.trace_step(step, state, batch, mesh=mesh) for the mesh that it runs on."
    )
