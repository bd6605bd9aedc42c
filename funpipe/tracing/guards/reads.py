"""Answers what a function that is traced asks of tensors in Python (`.item()`, `bool(x)`), and notes each answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from funpipe import _compat
from funpipe._errors import DataDependentError
from funpipe.tracing.guards import refusals
from funpipe.tracing.guards.guard import Guard, Key, is_real, reader
from funpipe.tracing.guards.subgraph import ancestors, constants, extract
from funpipe.tracing.operators import is_random
from funpipe.tracing.random.draws import KEY
from funpipe.tracing.where import user_line

aten = torch.ops.aten


@dataclass
class Reads:
    """The values that a function reads while it is traced.

    Args:
        leaves: the kind and name of each argument of the function, in order.
        values: real tensors for the leaves of the kinds "batch" and "buffer" that have values.
        what: is traced, as errors call it.
        updated: the buffers that it is known to update.
        guards: what has been read, by how it is computed.
        answers: everything that has been read, in order.
    """

    leaves: Sequence[Key]
    values: Mapping[Key, Tensor]
    what: str = "the loss function"
    updated: frozenset[str] = frozenset()
    guards: dict[str, Guard] = field(default_factory=dict)
    answers: list[Any] = field(default_factory=list)

    @property
    def table(self) -> dict[Any, Callable[..., Any]]:
        """For the tracer: the operators that give Python values, and what answers in their place."""
        return {aten._local_scalar_dense.default: self._scalar, aten.equal.default: self._equal}

    def _scalar(self, tensor: Tensor) -> Any:
        return self._read(aten._local_scalar_dense.default, [tensor])

    def _equal(self, one: Tensor, other: Tensor) -> Any:
        return self._read(aten.equal.default, [one, other])

    def _read(self, target: Any, tensors: list[Tensor]) -> Any:
        nodes = [_compat.traced_node(t) for t in tensors]
        direct = {
            ("const", f"closed_over_{i}"): t for i, (t, n) in enumerate(zip(tensors, nodes, strict=True)) if n is None
        }
        if not all(map(is_real, direct.values())):
            return NotImplemented  # it is no value of this trace
        needed = ancestors([n for n in nodes if n is not None])
        keys, consts = self._keys(needed), constants(needed) | {name: t for (_, name), t in direct.items()}
        unknown = iter(direct)
        graph = extract(needed, target, [next(unknown) if n is None else n for n in nodes], keys)
        given = {**self.values, **{("const", n): t for n, t in consts.items()}}
        value = reader(graph)([given[n.meta["leaf"]] for n in graph.find_nodes(op="placeholder")])
        self._note(Guard(graph, value, user_line() or "an unknown line", consts))
        self.answers.append(value)
        return value

    def _note(self, guard: Guard) -> None:
        if guard.leaves:
            self.guards.setdefault(guard.text, guard)

    def _keys(self, needed: list[fx.Node]) -> dict[fx.Node, Key]:
        """The leaves that a value comes from.

        Raises:
            DataDependentError: it comes from something that no constant can stand for, or that has no values.
        """
        random = next((n for n in needed if is_random(n) or n.target is KEY), None)
        if random is not None:
            raise DataDependentError(refusals.random_text(self.what, str(random.target)))
        placeholders = needed[0].graph.find_nodes(op="placeholder") if needed else []
        named = dict(zip(placeholders, self.leaves, strict=False))
        keys = {n: named[n] for n in needed if n.op == "placeholder"}
        for kind, name in keys.values():
            if kind not in ("batch", "buffer"):
                raise DataDependentError(refusals.kind_text(self.what, kind, name))
            if kind == "buffer" and name in self.updated:
                raise DataDependentError(refusals.updated_text(self.what, name))
            if (kind, name) not in self.values:
                raise DataDependentError(refusals.empty_text(self.what, kind, name))
        return keys | {n: ("const", str(n.target)) for n in needed if n.op == "get_attr"}
