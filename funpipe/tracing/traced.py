"""`Traced`: the joint graph (forward and backward) of one microbatch, with where each node comes from."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx

from funpipe._typing import TensorType
from funpipe.functional.fixed import FixedType
from funpipe.functional.precision import Precision
from funpipe.tracing.guards.guard import Guard
from funpipe.tracing.ways.attempt import Attempt


@dataclass(frozen=True)
class Mark:
    """A stage end that the model itself asked for: the number of forward nodes before it."""

    position: int
    name: str


@dataclass(frozen=True)
class Traced:
    """The flat, functional ATen graph of one microbatch, forward and backward.

    Args:
        graph: the graph. Placeholders are named by `node.meta["leaf"]`, a pair of a kind (`"param"`, `"buffer"`,
            `"batch"`, `"const"`, `"scale"`, `"random"`: the key of a draw) and a name; other nodes have
            `node.meta["path"]`, the dotted path of the module they ran in (None outside any), and
            `node.meta["source"]`, the user's line as `"file:line"` (None if unknown).
        forward: the nodes of the forward, in trace order.
        backward: the nodes of the backward, in trace order.
        outputs: the node of each output: `"loss"`, `"weight"` (if the loss is weighted), `"aux.NAME"`, `"buffer.NAME"`.
        reducers: how each auxiliary value is combined over the microbatches, by its name.
        gradients: for each trainable leaf that the loss depends on, the nodes whose sum is its gradient: one for each
            place that uses the leaf, in trace order.
        params, buffers, batch: the types of the leaves, in tree order.
        frozen: the names of the parameters that are not trained.
        marks: the stage ends the model asked for.
        consts: tensors that the loss function closed over, by name.
        modules: the dotted paths of all modules that were called, in order of their first call.
        kept: the types in which parameters are kept, where those of `params` are what the loss function gets.
        precision: the policy that it was traced with.
        guards: the values that the loss function read in Python, for which alone the graph holds.
        fixed: what the batch holds besides tensors, by name; the graph holds for these values alone.
        way: how it was traced: `"functional"`; `"export"` or `"modules"` where a part had to be exported or is opaque.
        attempts: the ways that were tried, in order; empty if the first one worked.
        opaque: the dotted paths of the modules that are called and not traced.
        objects: what the texts of their operators name; open `knowing(objects)` to run the graph.
    """

    graph: fx.Graph
    forward: tuple[fx.Node, ...]
    backward: tuple[fx.Node, ...]
    outputs: dict[str, fx.Node]
    reducers: dict[str, str]
    gradients: dict[str, tuple[fx.Node, ...]]
    params: dict[str, TensorType]
    buffers: dict[str, TensorType]
    batch: dict[str, TensorType]
    frozen: frozenset[str] = frozenset()
    marks: tuple[Mark, ...] = ()
    consts: dict[str, Any] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    kept: dict[str, TensorType] = field(default_factory=dict)
    precision: Precision | None = None
    guards: tuple[Guard, ...] = ()
    fixed: dict[str, FixedType] = field(default_factory=dict)
    way: str = "functional"
    attempts: tuple[Attempt, ...] = ()
    opaque: tuple[str, ...] = ()
    objects: dict[str, Any] = field(default_factory=dict)

    @property
    def leaves(self) -> dict[tuple[str, str], fx.Node]:
        """The placeholder of each leaf that the graph reads, by kind and name."""
        return {n.meta["leaf"]: n for n in self.graph.nodes if n.op == "placeholder"}

    def as_text(self) -> str:
        """The graph, one line a node: part, name, operation, type, module path, source line."""
        return "\n".join(
            [f"way   {attempt.as_text()}" for attempt in self.attempts]
            + [f"leaf  {n.name} = {kind} {name}" for (kind, name), n in self.leaves.items()]
            + [_line("F", n) for n in self.forward]
            + [_line("B", n) for n in self.backward]
            + [f"fixed {name} = {value}" for name, value in self.fixed.items()]
            + [f"guard {guard}" for guard in self.guards]
            + [f"return {name} = {node.name}" for name, node in self.outputs.items()]
            + [f"grad   {leaf} = {' + '.join(n.name for n in terms)}" for leaf, terms in self.gradients.items()]
        )


def _line(part: str, node: fx.Node) -> str:
    value = node.meta.get("val")
    kind = str(TensorType.of(value)) if isinstance(value, Tensor) else "tuple"
    target = getattr(node.target, "__name__", str(node.target))
    args = ", ".join(str(a) for a in node.args)
    reads = f"  reads {', '.join(node.meta['params'])}" if node.meta.get("params") else ""
    where = "  ".join(str(node.meta[k]) for k in ("path", "source") if node.meta.get(k) is not None)
    return f"{part:5} {node.name}: {kind} = {target}({args}){reads}  # {where}".rstrip(" #")
