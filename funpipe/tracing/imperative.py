"""The functional graph of a function that writes: `.backward()`, `optimizer.step()` and in-place updates become values.

Tracing is done twice. The first time autograd runs, and operators that write are recorded as such; the second time the
recorded operators run under functionalization, which `.backward()` itself cannot. Both see stand-ins without memory,
so nothing that the function was given is changed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.graph import CodeGen

from funpipe._compat import complete_fused_updates
from funpipe._errors import TraceError
from funpipe._typing import TensorType

_SPANS = "profiler"
"""The namespace of the operators that mark a span for torch's profiler."""
_NAMES = (torch.ops.aten.detach.default, torch.ops.aten.alias.default, torch.ops.aten.copy_.default)


def imperative_graph(fn: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> fx.GraphModule:
    """Traces a function of flat tensors that may run backward passes and write to its inputs.

    Args:
        fn: takes the inputs, returns flat tensors. An input that it wrote to is returned like any other value.
        inputs: real tensors of any shape, dtype and device; neither they nor their `.grad` are changed.

    Returns:
        A module of ATen operators, none of which writes: placeholders in the order of `inputs`, then one for each
        tensor that the function made of Python numbers (`module.meta["constants"]`, in order); one flat tuple out.
        Each node has its type in `meta["val"]`.

    Raises:
        TraceError: the function decides something by the value of a tensor, or uses a tensor that it was not given.

    Example:
        >>> def step(weight, x):
        ...     weight.requires_grad_()
        ...     (weight * x).sum().backward()
        ...     with torch.no_grad():
        ...         weight -= 0.1 * weight.grad
        ...     return [weight.detach()]
        >>> module = imperative_graph(step, [torch.ones(2), torch.ones(2)])
        >>> module(torch.ones(2), torch.full((2,), 3.0))
        (tensor([0.7000, 0.7000]),)
    """
    complete_fused_updates()
    recorded = _recorded(fn, inputs)
    _erase_spans(recorded.graph)
    constants = _lift_constants(recorded)
    recorded.graph.set_codegen(CodeGen())
    recorded.recompile()
    fakes = [node.meta["val"] for node in recorded.graph.find_nodes(op="placeholder")]
    run = _Functional(recorded).run
    functional = torch.func.functionalize(
        lambda *args: tuple(run(*args, enable_io_processing=False)), remove="mutations"
    )
    module = make_fx(functional, tracing_mode="fake")(*fakes)
    _erase_copies(module.graph)
    module.graph.set_codegen(CodeGen())
    module.graph.eliminate_dead_code()
    module.recompile()
    module.meta["constants"] = constants
    return module


def _recorded(fn: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> fx.GraphModule:
    try:
        with torch.enable_grad():
            return make_fx(fn, tracing_mode="fake")(*inputs)
    except Exception as error:
        if (text := _explained(error)) is None:
            raise
        raise TraceError(text) from error


_DECIDES = ("DataDependentOutputException", "GuardOnDataDependentSymNode")
"""What torch raises where Python wants the value of a tensor that has none."""


def _explained(error: Exception) -> str | None:
    if type(error).__name__ in _DECIDES:
        return (
            f"the step decides something by the value of a tensor ({str(error).splitlines()[0]}), and a graph has one "
            "course for all values: use torch.where, or decide it outside of the step."
        )
    if "Please convert all Tensors to FakeTensors" in str(error):
        return (
            "the step uses a tensor that it was not given, and later calls would keep the one of the first: pass it as "
            "an argument, or register it as a buffer of the model."
        )
    return None


class _Functional(fx.Interpreter):
    """Runs fused updates in their functional form, which functionalization does not know."""

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One operator."""
        name = target.overloadpacket.__name__ if hasattr(target, "overloadpacket") else ""
        if not (name.startswith("_fused_") and name.endswith("_")):
            return super().call_function(target, args, kwargs)
        update = getattr(getattr(torch.ops.aten, name.removesuffix("_")), target._overloadname)
        written = [
            i for i, a in enumerate(target._schema.arguments) if a.alias_info is not None and a.alias_info.is_write
        ]
        for index, values in zip(written, update(*args, **kwargs), strict=True):
            if target._schema.arguments[index].name != "grads":  # they change where they are scaled alone
                for old, new in zip(args[index], values, strict=True):
                    old.copy_(new)
        return None


def _erase_spans(graph: fx.Graph) -> None:
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and getattr(node.target, "namespace", "") == _SPANS:
            graph.erase_node(node)


def _lift_constants(module: fx.GraphModule) -> list[Tensor]:
    """Tensors that were made of numbers become inputs, for those are what everybody who reads a graph understands."""
    found: dict[str, tuple[fx.Node, Tensor]] = {}
    last = module.graph.find_nodes(op="placeholder")[-1]
    for node in module.graph.find_nodes(op="get_attr"):
        name = str(node.target)
        if name not in found:
            found[name] = _input(module.graph, last, f"const_{len(found)}", getattr(module, name), node.meta)
            last = found[name][0]
        node.replace_all_uses_with(found[name][0])
        module.graph.erase_node(node)
    return [value for _, value in found.values()]


def _input(graph: fx.Graph, after: fx.Node, name: str, value: Tensor, meta: dict[str, Any]) -> tuple[fx.Node, Tensor]:
    with graph.inserting_after(after):
        node = graph.placeholder(name)
    mode = after.meta["val"].fake_mode
    node.meta = {**meta, "val": mode.from_tensor(value)}
    return node, value


def _erase_copies(graph: fx.Graph) -> None:
    """Other names of a value, and what functionalization writes back into the inputs in the end."""
    for node in list(graph.nodes):
        same = _same(node)
        if same is not None:
            node.replace_all_uses_with(same)
            graph.erase_node(node)


def _same(node: fx.Node) -> fx.Node | None:
    """The value that a node is another name of."""
    if node.target in _NAMES:
        return node.args[0]  # type: ignore[return-value]
    if node.target is not torch.ops.aten.copy.default:
        return None
    source = node.args[1]
    alike = isinstance(source, fx.Node) and TensorType.of(source.meta["val"]) == TensorType.of(node.meta["val"])
    return source if alike else None  # type: ignore[return-value]
