"""One task: the forward or a backward of one microbatch on one stage, written `2F0` (stage, kind, microbatch)."""

import re
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, cast

from funpipe._errors import ScheduleError

Kind = Literal["F", "B", "I", "W"]
"""F forward, B whole backward, I gradient of the inputs, W gradient of the weights; B does what I and W do."""

KINDS: tuple[Kind, ...] = ("F", "B", "I", "W")

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
            if not isinstance(value, Integral) or value < 0:
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
