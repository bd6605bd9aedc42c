"""A pure training step becomes one graph: forward, backward, communication and update, for one rank of a mesh."""

from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from funpipe._errors import FunpipeTypeError, MeshError
from funpipe._typing import MeshShape, TensorType, Tree
from funpipe.functional.axes import NAMES
from funpipe.functional.objects import collecting
from funpipe.functional.tree import named_leaves
from funpipe.graphs import Graph, from_fx
from funpipe.graphs.check import check
from funpipe.graphs.dead import eliminate_dead
from funpipe.graphs.step import Step
from funpipe.tracing.assemble import Assembly
from funpipe.tracing.called_step import CalledStep, StepFunction
from funpipe.tracing.foreign import check_own_collectives
from funpipe.tracing.trace import leaf_type, raw_graph


class HasShape(Protocol):
    """A mesh: it knows how many ranks it has along each axis."""

    @property
    def shape(self) -> MeshShape:
        """The number of pipeline ranks and of replicas."""
        ...


_PLACE = TensorType((), (), torch.int64)


def trace_step(step: StepFunction, state: Tree, batch: Tree, *, mesh: HasShape | MeshShape | None = None) -> Step:
    """Traces a pure training step, with its communication, to one graph that every rank of a mesh runs.

    Nothing is computed or sent, and no memory is taken: only the shapes, dtypes and devices of the arguments are read,
    so they may be real, fake or on the meta device (then the graph is for the CPU). Inside, gradients may come from
    `torch.func.grad_and_value`, `torch.func.vjp` or `torch.autograd.grad`, and ranks meet in `fp.psum`, `fp.pmean`,
    `fp.all_gather` and `fp.reduce_scatter`. An update by `fp.optim.apply` is one operator for each kind of leaf.

    Args:
        step: `step(state, batch) -> (new_state, aux)`, pure: it writes to nothing that it is given and draws no random
            numbers. The new state has the tree, shapes and dtypes of the old one; `aux` is any pytree of tensors.
        state: a pytree of tensors: what one rank keeps from step to step. Leaves that require a gradient do so in
            `step`, too.
        batch: a pytree of tensors: what one rank is given.
        mesh: the mesh, or its shape alone; None for one rank.

    Returns:
        The step: its graph, and the trees around it.

    Raises:
        TraceError: the function branches on a tensor's value, draws random numbers, writes to a leaf in place, closes
            over a tensor that requires a gradient, raises, or returns no pair; the text names the user's line.
        TreeError: the new state has another tree, or a leaf another shape or dtype; the leaf is named.
        CommunicationError: a collective's arguments do not fit the mesh.
        MeshError: there are other processes, and no mesh.
        FunpipeTypeError: the mesh is neither a mesh nor the shape of one.

    Example:
        >>> import torch, funpipe as fp
        >>> def step(w, x):
        ...     gradient, loss = torch.func.grad_and_value(lambda w: (x @ w).square().mean())(w)
        ...     return w - 0.1 * fp.pmean(gradient, "dp"), {"loss": fp.pmean(loss, "dp")}
        >>> traced = fp.trace_step(step, torch.ones(3), torch.ones(4, 3), mesh=fp.MeshShape(pp=1, dp=2))
        >>> [node.name for node in traced.graph.nodes if "collectives" in str(node.target)]
        ['all_reduce', 'wait_tensor', 'all_reduce_1', 'wait_tensor_1']
    """
    shape = _shape_of(mesh)
    called = CalledStep(step, *named_leaves(state, "state"), *named_leaves(batch, "batch"), shape)
    types = [_types(called.state), _types(called.batch), dict.fromkeys(NAMES, _PLACE)]
    leaves = [(kind, n) for kind, part in zip(("state", "batch", "axis"), types, strict=True) for n in part]
    with collecting() as objects:
        raw, consts = raw_graph(called, types, leaves, None)
    check_own_collectives(raw, called.what)
    leaves += [("const", n) for n in consts]
    made = Assembly(raw, leaves, what=called.what).with_output()
    names = [f"{kind}.{n}" for kind, n in leaves]
    constants = {f"const.{n}": t for n, t in consts.items()}
    graph = from_fx(made, names, called.outputs, constants=constants, objects=objects)
    return Step(_clean(graph), called.state_spec, called.batch_spec, called.aux_spec, shape)


def _types(leaves: dict[str, Tensor]) -> dict[str, TensorType]:
    return {n: leaf_type(t, "cpu" if t.device.type == "meta" else None) for n, t in leaves.items()}


def _clean(graph: Graph) -> Graph:
    """Without what no output needs; the inputs that a caller gives stay, whether they are read or not."""
    graph = eliminate_dead(graph)
    kept = {n: t for n, t in graph.inputs.items() if _is_given(n) or graph.readers(n) or n in graph.returned}
    constants = {n: t for n, t in graph.constants.items() if n in kept}
    graph = graph.replace(inputs=kept, constants=constants)
    check(graph)
    return graph


def _is_given(name: str) -> bool:
    return name.startswith(("state.", "batch."))


def _shape_of(mesh: HasShape | MeshShape | None) -> MeshShape:
    if mesh is not None:
        shape = mesh if isinstance(mesh, MeshShape) else getattr(mesh, "shape", None)
        if not isinstance(shape, MeshShape):
            raise FunpipeTypeError(
                f"trace_step: mesh is {mesh!r}; pass fp.mesh(pp=..., dp=...), or its shape alone, fp.MeshShape(pp=1, "
                "dp=2)."
            )
        return shape
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise MeshError(
            f"there are {dist.get_world_size()} processes, and trace_step was given no mesh: pass mesh=fp.mesh(pp=..., "
            "dp=...), or fp.MeshShape(pp=1) for a step of this process alone."
        )
    return MeshShape(1)
