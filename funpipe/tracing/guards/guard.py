"""`Guard`: a value that a function read in Python while it was traced, and the small graph that gives it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from funpipe import _compat
from funpipe.functional.deferred import made
from funpipe.tracing.operators import mutates

Key = tuple[str, str]
"""The kind and the name of a leaf."""


@dataclass(frozen=True, eq=False)
class Guard:
    """A graph holds for one value alone of something that was read out of tensors: `x.any().item()`, `if mask.all():`.

    Args:
        graph: gives the value from leaves; placeholders have `node.meta["leaf"]` (the kind `"batch"`, `"buffer"` or
            `"const"`, and the name), and everything is on the CPU.
        value: that was read, and is a constant of the graph that was traced.
        source: the user's line, as `"file:line: text"`.
        consts: tensors that the function closed over, by name.

    Example:
        >>> import funpipe as fp
        >>> loss = lambda p, x: (x @ p["w"]).sum() * (2 if x.max() > 5 else 1)
        >>> (guard,) = fp.trace(loss, {"w": torch.ones(3, 1)}, torch.ones(4, 3)).guards
        >>> guard.value, guard.read({("batch", ""): torch.full((4, 3), 6.0)})
        (False, True)
    """

    graph: fx.Graph
    value: Any
    source: str
    consts: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def leaves(self) -> tuple[Key, ...]:
        """What of a batch and of the buffers decides."""
        found = (n.meta["leaf"] for n in self.graph.find_nodes(op="placeholder"))
        return tuple(leaf for leaf in found if leaf[0] != "const")

    @cached_property
    def text(self) -> str:
        """The graph as one line, which is equal for equal graphs in every process."""
        names = {n: _name(n, f"v{i}", self.consts) for i, n in enumerate(self.graph.nodes)}
        calls = [n for n in self.graph.nodes if n.op == "call_function"]
        lines = [f"{names[n]} = {n.target}({_arguments(n, names)})" for n in calls[:-1]]
        return "; ".join([*lines, f"{calls[-1].target}({_arguments(calls[-1], names)})"])

    def read(self, values: Mapping[Key, Tensor]) -> Any:
        """The value for other leaves.

        Args:
            values: real tensors on any device, at least those of `leaves`; one microbatch.
        """
        known = {**values, **{("const", n): t for n, t in self.consts.items()}}
        return self._read([known[n.meta["leaf"]] for n in self.graph.find_nodes(op="placeholder")])

    @cached_property
    def _read(self) -> Callable[[list[Tensor]], Any]:
        return reader(self.graph)

    def __str__(self) -> str:
        return f"{self.value!r} == {self.text}  # {self.source}"


def reader(graph: fx.Graph) -> Callable[[list[Tensor]], Any]:
    """A small graph as a function of real tensors on any device, whatever modes are open.

    Args:
        graph: for the CPU; it may write to copies of what it is given.
    """
    run, copy = fx.GraphModule({}, graph).forward, any(mutates(n) for n in graph.nodes)

    def read(given: list[Tensor]) -> Any:
        with _compat.outside_modes(), torch.no_grad():
            return run(*[made(t).detach().to("cpu", copy=copy) for t in given])

    return read


def is_real(tensor: Tensor) -> bool:
    """Whether a tensor has values.

    Args:
        tensor: any.

    Returns:
        False for one on the meta device or a stand-in of a tracer.

    Example:
        >>> is_real(torch.ones(2)), is_real(torch.ones(2, device="meta"))
        (True, False)
    """
    return tensor.device.type != "meta" and not _compat.is_fake(tensor)


def _name(node: fx.Node, other: str, consts: Mapping[str, Tensor]) -> str:
    if node.op != "placeholder":
        return other
    kind, name = node.meta["leaf"]
    return f"const {_fingerprint(consts[name])}" if kind == "const" else f"{kind} {name!r}"


def _fingerprint(tensor: Tensor) -> str:
    with _compat.outside_modes():
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.blake2b(raw, digest_size=6).hexdigest()


def _arguments(node: fx.Node, names: Mapping[fx.Node, str]) -> str:
    show: Any = lambda n: _Shown(names[n])  # noqa: E731
    shown: Any = fx.map_arg((list(node.args), dict(node.kwargs)), show)
    return ", ".join([*map(repr, shown[0]), *(f"{k}={v!r}" for k, v in shown[1].items())])


class _Shown:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name
