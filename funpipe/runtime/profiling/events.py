"""Events from the parts of a step and the times at which they began."""

import re
from collections.abc import Sequence
from itertools import pairwise

from funpipe.programs.instructions import (
    AllReduce,
    Flatten,
    Instruction,
    Microbatch,
    PostRecv,
    Run,
    Send,
    Update,
    WaitRecv,
    WaitSend,
    runs_of,
)
from funpipe.programs.program import Program, Programs
from funpipe.programs.text import instruction_text
from funpipe.runtime.profiling.event import Event

Part = tuple[Instruction, ...]
_Message = Send | WaitSend | PostRecv | WaitRecv


class Events:
    """Writes the events of one rank.

    Args:
        programs: all programs.
        program: the rank's.
        rank: its global rank.
    """

    def __init__(self, programs: Programs, program: Program, rank: int) -> None:
        self.programs, self.rank = programs, rank
        runs = [run for i in program.instructions for run in runs_of(i)]
        uses = [(v, programs.regions[r.region].stage) for r in runs for v in (*r.writes, *r.reads)]
        self.stages = dict(reversed(uses))  # a message's stage is the one that makes its value, or first reads it
        self.values = {i.message: i.value for i in program.instructions if isinstance(i, Send | WaitRecv)}

    def write(self, parts: Sequence[Part], times: Sequence[float]) -> list[Event]:
        """One event for each part, and one for what the host does on either side.

        Args:
            parts: of the step.
            times: in seconds: when the host began, when each part began, when the last one ended, when the host ended.
        """
        spans = list(pairwise(times))
        before, after = (self._host(kind, *span) for kind, span in (("before", spans[0]), ("after", spans[-1])))
        inner = [self._event(part, *span) for part, span in zip(parts, spans[1:-1], strict=True)]
        if inner and not parts[-1]:
            inner[-1] = self._host("end", *spans[-2])
        return [before, *inner, after]

    def _host(self, kind: str, start: float, end: float) -> Event:
        return Event(self.rank, kind, kind, None, None, start, end)

    def _event(self, part: Part, start: float, end: float) -> Event:
        if not part:
            return self._host("start", start, end)
        message = part[0].message if isinstance(part[0], _Message) else None
        stages, microbatches = ({find(i) for i in part} for find in (self._stage, self._microbatch))
        text = "\n".join(map(instruction_text, part))
        stage, microbatch = (next(iter(s)) if len(s) == 1 else None for s in (stages, microbatches))
        return Event(self.rank, text, self._kind(part), stage, microbatch, start, end, message, self._nbytes(part[0]))

    def _kind(self, part: Part) -> str:
        named = next((i for i in part if isinstance(i, Update)), part[0])
        if isinstance(named, Run):
            return self.programs.regions[named.region].kind
        return word_of(named)

    def _stage(self, instruction: Instruction) -> int | None:
        match instruction:
            case Run(region):
                return self.programs.regions[region].stage
            case Flatten(bucket) | Update(bucket):
                return self.programs.layout.bucket(bucket).stage
            case Send() | WaitSend() | PostRecv() | WaitRecv():
                return self.stages.get(self.values.get(instruction.message, ""))
            case _:
                return None

    def _microbatch(self, instruction: Instruction) -> int | None:
        match instruction:
            case Run(_, microbatch):
                return microbatch
            case Microbatch(index):
                return index
            case Send() | WaitSend() | PostRecv() | WaitRecv():
                suffix = self.values.get(instruction.message, "").rpartition("@")[2]
                return int(suffix) if suffix.isdigit() else None
            case _:
                return None

    def _nbytes(self, instruction: Instruction) -> int:
        match instruction:
            case Send() | WaitSend() | PostRecv() | WaitRecv():
                return self.programs.messages[instruction.message].type.nbytes
            case AllReduce(value):
                return self.programs.types[value].nbytes
            case _:
                return 0


def word_of(instruction: Instruction) -> str:
    """The word that stands for a kind of instruction in a program's text: `post_recv` for a `PostRecv`."""
    if isinstance(instruction, Microbatch):
        return "slice"
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(instruction).__name__).lower()
