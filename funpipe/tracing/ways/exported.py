"""A module exported by `torch.export`: its forward as a graph, which is traced in place of its Python.

Export reads a forward that the plain tracer cannot run: code behind `torch.compiler.is_exporting()`, and in its strict
form, which rewrites Python itself, a way through numpy, printing, and the like.
"""

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import torch
from torch import Tensor, fx, nn

from funpipe._errors import TraceError
from funpipe.tracing.ways.opaque import arguments_of
from funpipe.tracing.ways.recorded import Call, Signature, signature
from funpipe.tracing.ways.replacing import PREFIX, Body, Forward
from funpipe.tracing.where import at_line, is_users

_FUNCTIONS = {
    torch.ops.aten.dropout.default: torch.dropout,
    torch.ops.aten.alpha_dropout.default: torch.alpha_dropout,
    torch.ops.aten.feature_dropout.default: torch.feature_dropout,
    torch.ops.aten.feature_alpha_dropout.default: torch.feature_alpha_dropout,
    torch.ops.aten.scaled_dot_product_attention.default: torch.nn.functional.scaled_dot_product_attention,
}
"""Operators of an export with dropout in them, as the functions that a trace for an evaluation switches it off in."""

_INSIDE = re.compile(r"(module|body\.__self__)\.(?P<path>.+)")
"""How the path of a submodule begins in the export of a `Body`; in the strict form it goes by way of the method."""

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


@dataclass(frozen=True, eq=False)
class Exported:
    """Stands in for the forward of a module.

    Args:
        module: the module.
        path: its own.
        name: it is called in errors.
        graphs: what was exported for each kind of call.
    """

    module: nn.Module
    path: str
    name: str
    graphs: dict[Signature, fx.GraphModule] = field(default_factory=dict)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given, arguments = arguments_of(args, kwargs)
        graph = self.graphs.get(signature(arguments, given))
        if graph is None:
            raise TraceError(f"the module {self.name} was exported for other arguments than it is traced with.")
        leaves = dict(self.module.named_parameters(remove_duplicate=False))
        leaves |= dict(self.module.named_buffers(remove_duplicate=False))
        return _Replayed(graph, leaves).run(*args, *kwargs.values())


def export(module: nn.Module, forward: Forward, path: str, name: str, calls: Sequence[Call], strict: bool) -> Exported:
    """Exports a module for each kind of call that it gets.

    Args:
        module: the module.
        forward: its own forward.
        path: its dotted path.
        name: it is called in errors.
        calls: how it is called.
        strict: whether Python is rewritten, or run.

    Raises:
        Exception: whatever torch raises where it cannot be exported.
    """
    found = Exported(module, path, name)
    for call in calls:
        if call.problem is None and call.signature not in found.graphs:
            args, kwargs = call.arguments.rebuilt(call.given)
            with _quiet():
                program = torch.export.export(Body(module, forward), args, kwargs, strict=strict)
            found.graphs[call.signature] = _noted(program.module(), path)  # type: ignore[arg-type]
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """While open, nothing is printed or logged: torch shows graphs that it cannot finish, and the next way may work."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class _Replayed(fx.Interpreter):
    """Runs an exported graph with other parameters."""

    def __init__(self, graph: fx.GraphModule, leaves: dict[str, Tensor]) -> None:
        super().__init__(graph)
        self.leaves = leaves

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        leaf = self.leaves.get(str(target).removeprefix(PREFIX))
        return super().get_attr(target, args, kwargs) if leaf is None else leaf

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return super().call_function(_FUNCTIONS.get(target, target), args, kwargs)

    def run_node(self, n: fx.Node) -> Any:
        with at_line(n.meta["custom"].get("source")):
            return super().run_node(n)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        return None  # the guards of the export: the tracer looks at shapes and dtypes itself


def _noted(graph: fx.GraphModule, path: str) -> fx.GraphModule:
    """A graph whose nodes say where they come from as a trace of the module itself would; nothing else is kept."""
    for node in graph.graph.nodes:
        notes = {"path": _path(node, path), "source": _source(node)}
        node.meta = {"custom": {key: value for key, value in notes.items() if value is not None}}
    return graph


def _path(node: fx.Node, outer: str) -> str:
    """The path of the module that a node ran in."""
    inner = [str(path) for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    last = _INSIDE.match(inner[-1]) if inner else None
    return ".".join(p for p in (outer, last["path"] if last else "") if p)


def _source(node: fx.Node) -> str | None:
    """The innermost line of the user's own code that a node comes from."""
    frames = [(m["file"], m["line"]) for m in _FRAME.finditer(node.meta.get("stack_trace") or "")]
    users = [f"{file}:{line}" for file, line in frames if is_users(file)]
    return users[-1] if users else None
