"""A pure loss function becomes a `Traced`: one graph of one microbatch, forward and backward."""

from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any, Protocol

from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe import _compat
from funpipe._errors import FunpipeError, TraceError
from funpipe._typing import TensorType, Tree
from funpipe.functional.marks import collecting_marks
from funpipe.functional.tree import place
from funpipe.graphs.stand_in import fake_like
from funpipe.tracing.assemble import Assembly
from funpipe.tracing.batch_norm import DECOMPOSITIONS
from funpipe.tracing.fake import contiguous
from funpipe.tracing.foreign import object_text
from funpipe.tracing.functional_graph import without_mutation
from funpipe.tracing.joint import Joint, flat_tree
from funpipe.tracing.places import terms
from funpipe.tracing.purity import check_pure
from funpipe.tracing.traced import Traced
from funpipe.tracing.where import user_line_of


def trace(
    loss_fn: Callable[..., Any],
    params: Tree,
    batch: Tree,
    *,
    buffers: Tree = None,
    differentiate: bool = True,
    device: str | None = None,
) -> Traced:
    """Traces a loss function, forward and backward, on one microbatch.

    Nothing is computed and no memory is taken: only the shapes and dtypes of the arguments are read, so they may be
    real, fake or on the meta device.

    Args:
        loss_fn: `loss_fn(params, batch, *, buffers)`; see `funpipe.train_step`.
        params: a pytree of tensors. If any of them requires a gradient, those that do not are frozen; else all
            floating-point leaves are trained.
        batch: a pytree of tensors, one microbatch.
        buffers: a pytree of tensors, if the loss function takes them.
        differentiate: False traces the forward alone.
        device: the device type to trace for; that of the first leaf by default ("cpu" for meta tensors).

    Returns:
        The graph with its leaves, outputs and gradients.

    Raises:
        TraceError: the function branches on a tensor's value, draws random numbers, writes to a leaf in place, closes
            over a tensor that requires a gradient, or raises; the text names the user's line. Or its loss does not
            depend on the parameters, or a parameter to be trained is complex.
        LossError: what it returns is no loss.

    Example:
        >>> import torch, funpipe as fp
        >>> traced = fp.trace(lambda p, x: (x @ p["w"]).sum(), {"w": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> [str(node.target) for node in traced.forward]
        ['aten.mm.default', 'aten.sum.default']
    """
    trees = [flat_tree(t) for t in (params, {} if buffers is None else buffers, batch)]
    device = device or _device_of([leaf for _, _, leaves in trees for leaf in leaves])
    types = [{n: leaf_type(t, device) for n, t in zip(names, leaves, strict=True)} for _, names, leaves in trees]
    trained = trainable(dict(zip(trees[0][1], trees[0][2], strict=True))) if differentiate else []
    specs, names = (trees[0][0], trees[1][0], trees[2][0]), (trees[0][1], trees[1][1], trees[2][1])
    joint = Joint(loss_fn, specs, names, trained, buffers is not None, differentiate)
    named = [(kind, n) for kind, part in zip(("param", "buffer", "batch"), types, strict=True) for n in part]
    raw, consts = raw_graph(joint, types, named, device)
    made = Assembly(raw, [*named, *(("const", n) for n in consts)])
    frozen = frozenset(trees[0][1]) - set(trained)
    return traced_of(made, joint, types, frozen, consts)


class Traceable(Protocol):
    """What is traced: lists of tensors in, a list of tensors out.

    Attributes:
        what: it is called in errors.
    """

    what: str

    def __call__(self, *given: list[Tensor]) -> list[Tensor]:
        """The outputs, flat."""
        ...


class Function(Traceable, Protocol):
    """What is traced as a loss: it knows the names of its outputs once it has been called."""

    outputs: list[str]
    reducers: dict[str, str]
    differentiated: list[str]
    modules: tuple[str, ...]

    def __call__(self, *given: list[Tensor]) -> list[Tensor]:
        """The outputs, the first through `forward_end`, and behind them the gradients."""
        ...


def traced_of(
    made: Assembly,
    joint: Function,
    types: list[dict[str, TensorType]],
    frozen: frozenset[str],
    consts: dict[str, Tensor],
) -> Traced:
    """A graph with the names of what was traced.

    Args:
        made: the graph.
        joint: what was traced.
        types: of parameters, buffers and batch, by name.
        frozen: the names of the parameters that are not trained.
        consts: tensors that the function closed over, by name.
    """
    outputs = dict(zip(joint.outputs, made.returned, strict=False))
    gradients = dict(zip(joint.differentiated, made.returned[len(joint.outputs) :], strict=True))
    made.graph.output((tuple(outputs.values()), tuple(gradients.values())))
    order = {n: i for i, n in enumerate(made.graph.nodes)}
    backward = set(made.backward)
    places = {n: terms(g, order, backward) if n in types[0] else (g,) for n, g in gradients.items()}
    _drop_dead(made.graph, [*outputs.values(), *(t for ts in places.values() for t in ts)])
    alive = set(made.graph.nodes)
    before = [0, *accumulate(int(n in alive) for n in made.forward)]
    marks = tuple(type(m)(before[m.position], m.name) for m in made.marks)
    return Traced(
        graph=made.graph,
        forward=tuple(n for n in made.forward if n in alive),
        backward=tuple(n for n in made.backward if n in alive),
        outputs=outputs,
        reducers=joint.reducers,
        gradients=places,
        params=types[0],
        buffers=types[1],
        batch=types[2],
        frozen=frozen,
        marks=marks,
        consts=consts,
        modules=joint.modules,
    )


def _drop_dead(graph: fx.Graph, wanted: list[fx.Node]) -> None:
    """Erases what no output needs; placeholders of leaves that nothing reads go too."""
    (out,) = (n for n in graph.nodes if n.op == "output")
    graph.erase_node(out)
    graph.output(tuple(wanted))
    for node in reversed(list(graph.nodes)):
        if node.op != "output" and not node.users:
            graph.erase_node(node)


def raw_graph(
    joint: Traceable, types: list[dict[str, TensorType]], leaves: list[tuple[str, str]], device: str | None
) -> tuple[fx.Graph, dict[str, Tensor]]:
    """Runs a function on stand-ins, and notes the operators that it calls.

    Args:
        joint: the function.
        types: of its arguments, list by list.
        leaves: the kind and name of each.
        device: the type of the device to trace for; None: tensors that it closes over stay where they are.

    Returns:
        The functional graph, and the tensors that the function closed over, by name.
    """
    mode = _compat.fake_mode()
    inputs = [[fake_like(t, mode) for t in part.values()] for part in types]
    try:
        with collecting_marks(), _compat.through_compiled():
            module = make_fx(joint, DECOMPOSITIONS, tracing_mode="fake", _allow_non_fake_inputs=True)(*inputs)
    except FunpipeError:
        raise
    except Exception as error:
        raise TraceError(failure_text(error, joint.what)) from error
    flat, consts = _lift_constants(module, joint.what)
    check_pure(flat, [*leaves, *(("const", n) for n in consts)], joint.what)
    constants = [fake_like(leaf_type(c, device), mode) for c in consts.values()]
    for node, constant in zip(flat.find_nodes(op="placeholder")[len(leaves) :], constants, strict=True):
        node.meta["val"] = constant  # a step gets it on its own device, wherever it is now
    fakes = [*(t for part in inputs for t in part), *constants]
    return without_mutation(flat, fakes), consts


def _lift_constants(module: fx.GraphModule, what: str) -> tuple[fx.Graph, dict[str, Tensor]]:
    """The same graph with the tensors it closed over as placeholders after the others."""
    if not module.graph.find_nodes(op="get_attr"):
        return module.graph, {}
    graph, consts, copies = fx.Graph(), {}, {}
    placeholders: dict[str, fx.Node] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder":
            copies[node] = graph.node_copy(node)
    for node in module.graph.nodes:
        if node.op == "get_attr":
            name = str(node.target)
            if name not in consts:
                consts[name] = _constant(getattr(module, name), node, what)
                placeholders[name] = graph.placeholder(f"const_{name}")
                placeholders[name].meta = dict(node.meta)
            copies[node] = placeholders[name]
    for node in module.graph.nodes:
        if node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    return graph, consts


def _constant(value: Any, node: fx.Node, what: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise TraceError(object_text(value, node, what))
    if value.requires_grad:
        where = "the state" if what == "the step" else "params"
        raise TraceError(
            f"{what} closes over a tensor of shape {tuple(value.shape)} that requires a gradient"
            f" ({node.target}): it would be a constant and never be trained. Pass it in {where}, or detach it."
        )
    return value.detach()


def leaf_type(leaf: Tensor, device: str | None) -> TensorType:
    """The type of a leaf in a trace: laid out in rows, on the device that the trace is for, or where it is."""
    kind = contiguous(TensorType.of(leaf))
    return TensorType(kind.shape, kind.stride, kind.dtype, device or kind.device)


def _device_of(leaves: list[Tensor]) -> str:
    kinds = [leaf.device.type for leaf in leaves if leaf.device.type != "meta"]
    return kinds[0] if kinds else "cpu"


def trainable(params: Mapping[str, Tensor]) -> list[str]:
    """The parameters that are trained: those that require a gradient; where none does, all floating-point ones.

    Raises:
        TraceError: one of them is complex.
    """
    asked = any(leaf.requires_grad for leaf in params.values())
    wanted = {n: leaf for n, leaf in params.items() if leaf.requires_grad or not asked}
    for name, leaf in wanted.items():
        if leaf.is_complex():
            raise TraceError(
                f"params: {place(name)} is {TensorType.of(leaf)}, and complex leaves cannot be trained: pass "
                "torch.view_as_real(leaf) and call torch.view_as_complex in the loss function, or to freeze it let "
                "only the leaves that are trained require a gradient."
            )
    return [n for n, leaf in wanted.items() if leaf.is_floating_point()]


def failure_text(error: Exception, what: str) -> str:
    """Why a function cannot be traced, with the user's line, and the remedy.

    Args:
        error: that it raised.
        what: it is called.
    """
    line = user_line_of(error) or "an unknown line"
    if _reads_a_value(error):
        return (
            f"{what} reads a tensor's value in Python at {line}. A traced function cannot branch on data or "
            "call .item(), .tolist() or bool() on a tensor: use torch.where or a mask, or compute the value outside "
            "of it and pass it in the batch."
        )
    said = str(error).strip().rstrip(".")
    return f"{what} raised {type(error).__name__} at {line}: {said}. Correct that line, then trace again."


def _reads_a_value(error: Exception) -> bool:
    """Whether tracing failed because a Python number was asked of a tensor that has none."""
    names = {"DataDependentOutputException", "GuardOnDataDependentSymNode", "DynamicOutputShapeException"}
    return type(error).__name__ in names or "value out of a tracing tensor" in str(error)
