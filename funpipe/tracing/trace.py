"""A pure loss function becomes a `Traced`: one graph of one microbatch, forward and backward."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe import _compat
from funpipe._errors import DataDependentError, FunpipeError, TraceError
from funpipe._typing import TensorType, Tree
from funpipe.functional.deferred import is_deferred
from funpipe.functional.fixed import fixed, fixed_types
from funpipe.functional.marks import collecting_marks
from funpipe.functional.precision import Precision
from funpipe.functional.tree import place
from funpipe.graphs.stand_in import fake_like
from funpipe.tracing.assemble import Assembly
from funpipe.tracing.decompositions import DECOMPOSITIONS
from funpipe.tracing.dense import check_dense
from funpipe.tracing.dtypes import check_products
from funpipe.tracing.fake import contiguous
from funpipe.tracing.foreign import object_text
from funpipe.tracing.functional_graph import without_mutation
from funpipe.tracing.guards import Key, Reads, is_real, read_and_updated
from funpipe.tracing.joint import Joint, flat_tree
from funpipe.tracing.late_casts import late_casts
from funpipe.tracing.leaks import leaving_no_stand_ins, leaving_nothing
from funpipe.tracing.places import terms
from funpipe.tracing.purity import check_pure
from funpipe.tracing.random.draws import Draws
from funpipe.tracing.random.masks import write_new_masks
from funpipe.tracing.repeated import CalledAgainError, check_repeated
from funpipe.tracing.traced import Traced
from funpipe.tracing.ways.attempt import Way
from funpipe.tracing.ways.eager import eager_run
from funpipe.tracing.ways.search import traced_by
from funpipe.tracing.ways.stack import running_text
from funpipe.tracing.where import user_line_of


def trace(
    loss_fn: Callable[..., Any],
    params: Tree,
    batch: Tree,
    *,
    buffers: Tree = None,
    differentiate: bool = True,
    device: str | None = None,
    precision: Precision | None = None,
    way: Way = "auto",
    trains: bool | None = None,
) -> Traced:
    """Traces a loss function, forward and backward, on one microbatch.

    Nothing is computed and no memory is taken: only the shapes and dtypes of the arguments are read, so they may be
    real, fake or on the meta device; a value that the function itself reads in Python (`.item()`) must be real, and is
    a constant with a guard (`docs/values.md`). The function is called three times, to see that it does the same each
    time. Only where that fails inside of a module are other ways tried, which run the
    function once on real values (`docs/tracing.md`).

    Args:
        loss_fn: `loss_fn(params, batch, *, buffers)`; see `funpipe.train_step`.
        params: a pytree of tensors. If any of them requires a gradient, those that do not are frozen; else all
            floating-point leaves are trained.
        batch: a pytree of tensors, one microbatch; numbers, strings and enums in it are constants of the graph.
        buffers: a pytree of tensors, if the loss function takes them.
        differentiate: False traces the forward alone.
        device: the device type to trace for; that of the first leaf by default ("cpu" for meta tensors).
        precision: in which dtypes the loss function gets its leaves; see `funpipe.Precision`.
        way: what may be tried where a module cannot be traced: `"export"` reads it with torch.export, `"modules"` makes
            it one operator that calls it, `"functional"` is neither, `"auto"` both, in this order.
        trains: False switches dropout off; None: it is on where the graph is differentiated.

    Returns:
        The graph with its leaves, outputs and gradients.

    Raises:
        TraceError: the function reads a value that every step changes, does something else when it is called again,
            writes to a leaf in place, closes over a tensor that requires a gradient, or raises; the text names the
            user's line. Or its loss does not depend on the parameters, a parameter to be trained is complex, or
            autocast is open around the call.
        LossError: what it returns is no loss.

    Example:
        >>> import torch, funpipe as fp
        >>> traced = fp.trace(lambda p, x: (x @ p["w"]).sum(), {"w": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> [str(node.target) for node in traced.forward]
        ['aten.mm.default', 'aten.sum.default']
    """

    def once() -> Traced:
        return _functional(loss_fn, params, batch, buffers, differentiate, device, precision, trains=trains)

    return traced_by(way, once, eager_run(loss_fn, params, batch, buffers, precision))


def _functional(
    loss_fn: Callable[..., Any],
    params: Tree,
    batch: Tree,
    buffers: Tree,
    differentiate: bool,
    device: str | None,
    precision: Precision | None,
    updated: frozenset[str] = frozenset(),
    trains: bool | None = None,
) -> Traced:
    """The function as it is, run on stand-ins; it may not read the values of buffers that it updates."""
    batch = fixed(batch)
    trees = [flat_tree(t) for t in (params, {} if buffers is None else buffers, batch)]
    for what, (_, names, leaves) in zip(("params", "buffers", "batch"), trees, strict=True):
        check_dense(what, zip(names, leaves, strict=True))
    device = device or _device_of([leaf for _, _, leaves in trees for leaf in leaves])
    _refuse_autocast(device)
    if differentiate:
        _refuse_inference_mode()
    types = [{n: leaf_type(t, device) for n, t in zip(names, leaves, strict=True)} for _, names, leaves in trees]
    trained = trainable(dict(zip(trees[0][1], trees[0][2], strict=True))) if differentiate else []
    specs, names = (trees[0][0], trees[1][0], trees[2][0]), (trees[0][1], trees[1][1], trees[2][1])
    takes = buffers is not None
    joint = Joint(loss_fn, specs, names, trained, takes, differentiate, precision=precision, device=device)
    kept = precision.kept_types(types[0]) if precision else {}
    types[0] = precision.computed_types(kept) if precision else types[0]
    types += [{"value": TensorType((), (), torch.float32, device)}] * joint.scaled
    kinds = ("param", "buffer", "batch", *["scale"] * joint.scaled)
    named = [(kind, n) for kind, part in zip(kinds, types, strict=True) for n in part]
    reads = Reads(named, _values(names, trees), joint.what, updated)
    raw, consts = raw_graph(
        joint, types, named, device, reads, Draws(device, differentiate if trains is None else trains)
    )
    if precision:
        late_casts(raw)
    made = Assembly(raw, [*named, *(("const", n) for n in consts)])
    frozen = frozenset(trees[0][1]) - set(trained)
    traced = replace(traced_of(made, joint, types, frozen, consts), kept=kept, precision=precision)
    found = read_and_updated(reads.guards.values(), traced.outputs)
    if found:  # once more, to fail where it reads, in a module that may be traced in another way
        return _functional(loss_fn, params, batch, buffers, differentiate, device, precision, updated | found, trains)
    return replace(traced, guards=tuple(reads.guards.values()), fixed=fixed_types(batch))


def _values(names: Sequence[Sequence[str]], trees: Sequence[tuple[Any, list[str], list[Tensor]]]) -> dict[Key, Tensor]:
    """The leaves of buffers and batch that have values, by kind and name."""
    parts = zip(("buffer", "batch"), names[1:], trees[1:], strict=True)
    named = (((kind, n), t) for kind, ns, (_, _, ts) in parts for n, t in zip(ns, ts, strict=True))
    return {key: t for key, t in named if is_real(t) or is_deferred(t)}


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
    joint: Traceable,
    types: list[dict[str, TensorType]],
    leaves: list[tuple[str, str]],
    device: str | None,
    reads: Reads | None = None,
    draws: Draws | None = None,
) -> tuple[fx.Graph, dict[str, Tensor]]:
    """Runs a function on stand-ins, and notes the operators that it calls.

    Args:
        joint: the function.
        types: of its arguments, list by list.
        leaves: the kind and name of each.
        device: the type of the device to trace for; None: tensors that it closes over stay where they are.
        reads: answers what the function reads out of tensors in Python; None: reading is an error.
        draws: makes random operators functions of keys; None: they stay.

    Returns:
        The functional graph, and the tensors that the function closed over, by name.
    """
    mode = _compat.fake_mode()
    inputs = [[fake_like(t, mode) for t in part.values()] for part in types]
    try:
        with (
            collecting_marks(),
            _compat.through_compiled(),
            leaving_no_stand_ins(),
            _compat.quiet_refusals(),
            _compat.unchecked_distributions(),
            draws.counting() if draws else nullcontext(),
        ):
            table = {**DECOMPOSITIONS, **(reads.table if reads else {}), **(draws.table if draws else {})}
            module = make_fx(joint, table, tracing_mode="fake", _allow_non_fake_inputs=True)(*inputs)
    except FunpipeError:
        raise
    except Exception as error:
        raise failure(error, joint.what) from error
    flat, consts = _lift_constants(module, joint.what)
    if draws and draws.positions:
        write_new_masks(flat)
    check_pure(flat, [*leaves, *(("const", n) for n in consts)], joint.what)
    check_products(flat, joint.what)
    if isinstance(joint, Joint):
        _check_repeated(joint, inputs, table, mode, reads, draws)
    constants = [fake_like(leaf_type(c, device), mode) for c in consts.values()]
    for node, constant in zip(flat.find_nodes(op="placeholder")[len(leaves) :], constants, strict=True):
        node.meta["val"] = constant  # a step gets it on its own device, wherever it is now
    fakes = [*(t for part in inputs for t in part), *constants]
    return without_mutation(flat, fakes), consts


def _check_repeated(
    joint: Joint,
    inputs: list[list[Tensor]],
    table: Mapping[Any, Callable[..., Any]],
    mode: AbstractContextManager[Any],
    reads: Reads | None,
    draws: Draws | None,
) -> None:
    """Calls the loss function again on the same stand-ins."""
    answers = list(reads.answers) if reads else []
    own = {func: instead for func, instead in table.items() if reads is None or func not in reads.table}
    leaves = [t for part in inputs for t in part]

    def check(around: Callable[[], AbstractContextManager[Any]]) -> None:
        @contextmanager
        def during() -> Iterator[None]:
            counting = draws.counting() if draws else nullcontext()
            unchecked = _compat.unchecked_distributions()
            with around(), collecting_marks(), _compat.without_compiling(), unchecked, counting, mode:
                yield

        check_repeated(lambda: joint.forward(*inputs), leaves, own, answers, during, joint.what)

    with leaving_nothing(), _compat.quiet_refusals():  # what it counts, it counts once
        try:
            with leaving_no_stand_ins():
                check(nullcontext)
        except CalledAgainError:
            check(leaving_no_stand_ins)  # what it keeps itself may be in its way


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


def _refuse_autocast(device: str) -> None:
    """Raises where casts would come into the trace that the loss function did not ask for."""
    if torch.is_autocast_enabled(device):
        raise TraceError(
            f"torch.autocast({device!r}) is open around the call that traces the loss function: it would be part of "
            'this trace and of no later step. Open it inside of the loss function, or pass precision="bf16" to the '
            "step, and close it here."
        )


def _refuse_inference_mode() -> None:
    """Raises where autograd would record nothing."""
    if torch.is_inference_mode_enabled():
        raise TraceError(
            "torch.inference_mode() is open around the call that traces the loss function, so it would have no "
            "gradients: close it there. A step needs neither it nor torch.no_grad(), which does no harm."
        )


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


def failure(error: Exception, what: str) -> TraceError:
    """The error that says why a function cannot be traced, with the user's line, and the remedy.

    Args:
        error: that it raised.
        what: it is called.
    """
    line = user_line_of(error) or running_text(error)
    if _reads_a_value(error):
        return DataDependentError(
            f"{what} reads a tensor's value in Python at {line}. A traced function cannot branch on data or "
            "call .item(), .tolist() or bool() on a tensor: use torch.where or a mask, or compute the value outside "
            "of it and pass it in the batch."
        )
    said = str(error).strip().rstrip(".")
    return TraceError(f"{what} raised {type(error).__name__} at {line}: {said}. Correct that line, then trace again.")


def _reads_a_value(error: Exception) -> bool:
    """Whether tracing failed because a Python number was asked of a tensor that has none."""
    names = {"DataDependentOutputException", "GuardOnDataDependentSymNode", "DynamicOutputShapeException"}
    return type(error).__name__ in names or "value out of a tracing tensor" in str(error)
