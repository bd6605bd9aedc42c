"""A bucket as one tensor: the members side by side, as columns of a matrix.

                        each member is       what is sent is     what comes back is
    all_reduce          1 row                [1, columns]        [1, columns]
    all_gather          1 row                [1, columns]        [ranks, columns], a row of each rank
    reduce_scatter      a row for each rank  [ranks, columns]    [1, columns], this rank's row

The sum of every element is that of the same numbers as before, so the bits stay.
"""

import operator
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from funpipe._typing import TensorType
from funpipe.functional.communication import OPERATORS, WAIT
from funpipe.graphs import Node, Ref
from funpipe.passes.communication.alike import numbers_of
from funpipe.passes.communication.merged import Merged
from funpipe.tracing.fake import contiguous

aten = torch.ops.aten


class Concatenated(Merged):
    """One collective of a matrix that holds all members, and one wait; each member is a part of the result."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.numbers, target = numbers_of(self.members[0]), self.members[0].target
        ranks = self.numbers.get("size", 1)
        self.sent_rows = ranks if target is OPERATORS.reduce_scatter.default else 1
        self.given_rows = ranks if target is OPERATORS.all_gather.default else 1
        self.kinds = {member.name: self.graph.type_of(member.reads[0]) for member in self.members}
        self.columns = {name: kind.numel // self.sent_rows for name, kind in self.kinds.items()}
        self.at = {name: at for at, name in enumerate(self.kinds)}
        self.total = sum(self.columns.values())
        self.start, self.given, self.parts = map(self.names.fresh, ("bucket_start", "bucket_wait", "bucket_parts"))
        self.is_split = False

    def started(self) -> Iterator[Node]:
        """Rows of each member, all of them side by side, and the start."""
        rows, last = [], self.members[-1]
        for member in self.members:
            nodes = list(self._rows(member))
            rows.append(Ref(nodes[-1].name))
            yield from nodes
        matrix = self.names.fresh("bucket")
        yield self.new(last, matrix, aten.cat.default, (rows, 1), self._matrix(self.sent_rows, self.total))
        args = (Ref(matrix), *self.numbers.values())
        yield self.new(last, self.start, last.target, args, self._matrix(self.given_rows, self.total))

    def _rows(self, member: Node) -> Iterator[Node]:
        """A member as a matrix; one that does not lie in rows is copied first."""
        kind, columns, source = self.kinds[member.name], self.columns[member.name], member.reads[0]
        if not lies_in_rows(kind):
            source = self.names.fresh(f"{member.name}_copy")
            yield self._copy(member, source, member.reads[0], contiguous(kind))
        name, shape = self.names.fresh(f"{member.name}_rows"), [self.sent_rows, columns]
        yield self.new(member, name, aten.view.default, (Ref(source), shape), self._matrix(*shape))

    def waited(self, start: Node, wait: Node) -> Iterator[Node]:
        """The wait and the split, at the first wait of any member; the member's part."""
        if not self.is_split:
            yield from self._split(wait)
        part, kind = self.names.fresh(f"{wait.name}_part"), self._part(start.name)
        yield self.new(wait, part, operator.getitem, (Ref(self.parts), self.at[start.name]), kind)
        if self.given_rows > 1:
            strided, part = part, self.names.fresh(f"{wait.name}_rows")
            yield self._copy(wait, part, strided, contiguous(kind))
        yield self.new(wait, wait.name, aten.view.default, (Ref(part), list(wait.type.shape)), contiguous(wait.type))

    def _split(self, wait: Node) -> Iterator[Node]:
        self.is_split = True
        yield self.new(wait, self.given, WAIT, (Ref(self.start),), self._matrix(self.given_rows, self.total))
        args = (Ref(self.given), list(self.columns.values()), 1)
        yield self.new(wait, self.parts, aten.split_with_sizes.default, args, tuple(map(self._part, self.columns)))

    def _copy(self, like: Node, name: str, of: str, kind: TensorType) -> Node:
        copy = self.new(like, name, aten.clone.default, (Ref(of),), kind)
        return replace(copy, kwargs={"memory_format": torch.contiguous_format})

    def _matrix(self, rows: int, columns: int) -> TensorType:
        return contiguous(replace(next(iter(self.kinds.values())), shape=(rows, columns)))

    def _part(self, member: str) -> TensorType:
        """The type of a member's columns of what came back."""
        return replace(self._matrix(self.given_rows, self.columns[member]), stride=(max(self.total, 1), 1))


def lies_in_rows(kind: TensorType) -> bool:
    """Whether elements of a tensor are next to each other, row by row.

    Args:
        kind: its type.
    """
    steps = zip(kind.shape, kind.stride, contiguous(kind).stride, strict=True)
    return kind.numel == 0 or all(size == 1 or step == wanted for size, step, wanted in steps)
