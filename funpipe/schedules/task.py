"""One task: the forward or a backward of one microbatch on one stage, written `2F0` (stage, kind, microbatch).

Two tasks that a rank runs at once, a forward and a backward, are an `Overlap`, written `2F3&5B0`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, cast

from funpipe._errors import ScheduleError

Kind = Literal["F", "B", "I", "W"]
"""F forward, B whole backward, I gradient of the inputs, W gradient of the weights; B does what I and W do."""

KINDS: tuple[Kind, ...] = ("F", "B", "I", "W")

JOIN = "&"
"""Stands between the two tasks of an overlap."""

# Ten digits and more are refused here, before any integer or array is made of them.
_NUMBER = "(0|[1-9][0-9]{0,8})"
_TASK = re.compile(f"{_NUMBER}([FBIW]){_NUMBER}")


@dataclass(frozen=True, order=True, slots=True)
class Task:
    """One cell of a schedule: what a rank runs, on which of its stages, for which microbatch.

    Tasks compare like the tuple `(kind, stage, microbatch)`.

    Args:
        kind: "F" (forward), "B" (backward), "I" (gradient of the inputs) or "W" (gradient of the weights).
        stage: the stage's number, from 0 at the beginning of the model.
        microbatch: the microbatch's number, from 0.

    Raises:
        ScheduleError: another kind, or a number that is negative or not an integer.

    Example:
        >>> str(Task("F", 2, 0))
        '2F0'
        >>> Task.parse("2F0")
        Task(kind='F', stage=2, microbatch=0)
    """

    kind: Kind
    stage: int
    microbatch: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ScheduleError(f"Task has kind {self.kind!r}; use one of {', '.join(KINDS)}.")
        for name, value in (("stage", self.stage), ("microbatch", self.microbatch)):
            # The first question is the second one's common case, and far cheaper: tables have millions of tasks.
            if not (type(value) is int or isinstance(value, Integral)) or value < 0:
                raise ScheduleError(f"Task has {name} {value!r}; pass an integer from 0 on.")

    def __str__(self) -> str:
        return f"{self.stage}{self.kind}{self.microbatch}"

    @staticmethod
    def parse(text: str) -> "Task":
        """Reads what `str(task)` writes.

        Args:
            text: stage, kind, microbatch without spaces, such as "2F0".

        Returns:
            The task.

        Raises:
            ScheduleError: the text is anything else.

        Example:
            >>> Task.parse("11W3")
            Task(kind='W', stage=11, microbatch=3)
        """
        match = _TASK.fullmatch(text)
        if match is None:
            raise ScheduleError(f"{text[:40]!r} is not a task; write stage, kind (F, B, I or W), microbatch, like 2F0.")
        stage, kind, microbatch = match.groups()
        return Task(cast(Kind, kind), int(stage), int(microbatch))


@dataclass(frozen=True, order=True, slots=True)
class Overlap:
    """A forward and a backward that a rank runs at once, so that the work of one hides the waiting of the other.

    It starts when what both need is there, and both results are there at its end.

    Args:
        first: the forward.
        second: a backward (B, I or W) of another stage or of another microbatch.

    Raises:
        ScheduleError: the first is no forward, the second is one, or both are of one stage and microbatch.

    Example:
        >>> str(Overlap(Task("F", 0, 1), Task("B", 3, 0)))
        '0F1&3B0'
        >>> Overlap.parse("0F1&3B0").second
        Task(kind='B', stage=3, microbatch=0)

    Source:
        DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv 2412.19437, section 3.2.1.
    """

    first: Task
    second: Task

    def __post_init__(self) -> None:
        if self.first.kind != "F" or self.second.kind == "F":
            raise ScheduleError(f"{self} is no overlap; write a forward, then a backward, like 0F1&3B0.")
        if (self.first.stage, self.first.microbatch) == (self.second.stage, self.second.microbatch):
            raise ScheduleError(f"{self}: the backward needs this very forward; overlap two different microbatches.")

    def __iter__(self) -> Iterator[Task]:
        return iter((self.first, self.second))

    def __str__(self) -> str:
        return f"{self.first}{JOIN}{self.second}"

    @staticmethod
    def parse(text: str) -> "Overlap":
        """Reads what `str(overlap)` writes.

        Args:
            text: two tasks with "&" between them and no spaces, such as "0F1&3B0".

        Returns:
            The overlap.

        Raises:
            ScheduleError: the text is anything else.

        Example:
            >>> Overlap.parse("0F1&3I0").first
            Task(kind='F', stage=0, microbatch=1)
        """
        first, join, second = text.partition(JOIN)
        if not join:
            raise ScheduleError(f"{text[:40]!r} is not an overlap; write a forward, &, a backward, like 0F1&3B0.")
        return Overlap(Task.parse(first), Task.parse(second))
