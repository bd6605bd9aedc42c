"""Values that a model reads out of tensors in Python: `.item()`, `if mask.any():`.

A capture has no values. Where it fails for that, the model is run once for its example arguments, eagerly, and each
value that it reads is noted; another capture is given these values, and keeps with each the tensor that it was read
from. A stage reads that tensor again, in every call, and raises where the value is another one.
"""

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

import funpipe as fp
from funpipe.interop.pipelining.errors import PipeRuntimeError, PipeValueError

_OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))

_KINDS: dict[Any, str] = {
    Tensor.item: "item",
    Tensor.tolist: "tolist",
    Tensor.__bool__: "bool",
    Tensor.__int__: "int",
    Tensor.__float__: "float",
    Tensor.__index__: "index",
    Tensor.is_nonzero: "bool",
    torch.is_nonzero: "bool",
}
"""The functions that read, with what they read."""

_READ: dict[str, Callable[[Tensor], Any]] = {
    "item": Tensor.item,
    "tolist": Tensor.tolist,
    "bool": bool,
    "int": int,
    "float": float,
    "index": Tensor.__index__,
}


@torch.library.custom_op("funpipe_pipelining::reads", mutates_args=())
def _reads(tensor: Tensor, kind: str, value: str, line: str) -> None:
    return None


@_reads.register_fake
def _(tensor: Tensor, kind: str, value: str, line: str) -> None:
    return None


_OPERATOR = torch.ops.funpipe_pipelining.reads.default

fx.has_side_effect(_OPERATOR)


@dataclass(frozen=True)
class Value:
    """A value that was read.

    Args:
        kind: how, a key of `_READ`.
        value: it.
    """

    kind: str
    value: Any


@dataclass(eq=False)
class _Noting(TorchFunctionMode):
    """While open, notes what is read."""

    found: list[Value] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        if func in _KINDS:
            self.found.append(Value(_KINDS[func], value))
        return value


@dataclass(eq=False)
class Repeating(TorchFunctionMode):
    """While open, what is read has the values of an earlier run; each is kept in the graph with its tensor.

    Args:
        values: in the order in which they were read.
    """

    values: Sequence[Value]

    def __post_init__(self) -> None:
        super().__init__()
        self.left = list(self.values)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _KINDS:
            return func(*args, **(kwargs or {}))
        known = self._next(_KINDS[func])
        torch.ops.funpipe_pipelining.reads(args[0], known.kind, repr(known.value), _user_line())
        return known.value

    def _next(self, kind: str) -> Value:
        if kind == "item" and self.left and self.left[0].kind == "tolist":  # torch.export reads a list item by item
            self.left[:1] = [Value("item", value) for value in _flat(self.left[0].value)]
        if not self.left or self.left[0].kind != kind:
            raise PipeRuntimeError("the model reads other values while it is traced than when it is called")
        return self.left.pop(0)


def _flat(value: Any) -> list[Any]:
    return [one for part in value for one in _flat(part)] if isinstance(value, list) else [value]


def values_read(mod: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Value, ...]:
    """What a model reads out of tensors for its arguments; empty where these have no values.

    The model is called, without gradients, on copies of its buffers; random numbers of later calls stay what they were.

    Args:
        mod: the model.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Example:
        >>> class Model(nn.Module):
        ...     def forward(self, x):
        ...         return x * x.max().item()
        >>> values_read(Model(), (torch.ones(2),), {})
        (Value(kind='item', value=1.0),)
    """
    apply, params, buffers = fp.functionalize(mod)
    tensors = [*params.values(), *buffers.values(), *args, *kwargs.values()]
    if any(isinstance(t, Tensor) and t.is_meta for t in tensors):
        return ()
    noting = _Noting()
    with torch.random.fork_rng(devices=sorted({t.device for t in params.values() if t.is_cuda}, key=str)):
        with torch.no_grad(), noting:
            apply(params, buffers, *args, **kwargs)
    return tuple(noting.found)


def read_again(graph: fx.Graph) -> None:
    """Has a graph read the values again when it runs, in place.

    Args:
        graph: a captured model.
    """
    for node in graph.nodes:
        if node.target is _OPERATOR:
            node.target = still_reads


def still_reads(tensor: Tensor, kind: str, value: str, line: str) -> None:
    """Reads a value, which is a constant of a stage.

    Args:
        tensor: it is read from.
        kind: how.
        value: what it was, as text.
        line: of the model's code, that reads it.

    Raises:
        PipeValueError: it is another one.

    Example:
        >>> still_reads(torch.tensor(True), "bool", "True", "")
    """
    now = repr(_READ[kind](tensor))
    if now != value:
        raise PipeValueError(
            f"the model reads {now} out of a tensor {line}, and the stages were made where it was {value}; "
            "call pipeline() again with arguments like these."
        )


def _user_line() -> str:
    """The last line of the model's own code that is running."""
    frames = [frame for frame in traceback.extract_stack() if not frame.filename.startswith((*_OURS, "<"))]
    return f"at {frames[-1].filename}:{frames[-1].lineno}" if frames else "in torch"
