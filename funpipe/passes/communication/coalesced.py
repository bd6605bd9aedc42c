"""A bucket as a list: the communicator is given all tensors at once, and gives each back."""

import operator
from collections.abc import Iterator
from typing import Any

from funpipe.functional.communication import OPERATORS, WAIT
from funpipe.graphs import Node, Ref
from funpipe.passes.communication.alike import numbers_of
from funpipe.passes.communication.merged import Merged


class Coalesced(Merged):
    """One `all_reduce_coalesced`; each member keeps a wait of its own.

    p = all_reduce_coalesced([g2, g1])
    p2, p1 = p
    w2 = wait_tensor(p2)
    w1 = wait_tensor(p1)
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.start = self.names.fresh("bucket_start")
        self.parts = {member.name: self.names.fresh("bucket_part") for member in self.members}

    def started(self) -> Iterator[Node]:
        """The list's start, and its parts."""
        numbers, last = numbers_of(self.members[0]), self.members[-1]
        tensors = [Ref(member.reads[0]) for member in self.members]
        args = (tensors, numbers["reduce"], numbers["axis"])
        kinds = tuple(member.type for member in self.members)
        yield self.new(last, self.start, OPERATORS.all_reduce_coalesced.default, args, kinds)
        for at, member in enumerate(self.members):
            yield self.new(member, self.parts[member.name], operator.getitem, (Ref(self.start), at), member.type)

    def waited(self, start: Node, wait: Node) -> Iterator[Node]:
        """The wait, for its part."""
        yield self.new(wait, wait.name, WAIT, (Ref(self.parts[start.name]),), wait.type)
