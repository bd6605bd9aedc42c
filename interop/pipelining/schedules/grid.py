"""Rows of actions, as passes take and give them: for each rank a list, None where it is idle."""

from collections.abc import Mapping, Sequence

from funpipe.interop.pipelining.schedules.action import _Action

Row = Sequence[_Action | None]
"""The actions of one rank, in order."""

Rows = Mapping[int, Row]
"""For each rank its row."""


def busy(row: Row) -> list[_Action]:
    """A row without its idle cells."""
    return [action for action in row if action is not None]
