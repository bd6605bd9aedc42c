"""All ranks come to the end: a run of every rank at once in which only waiting counts.

The replicas of a rank run the same program, so one of them stands for all.
"""

from collections import defaultdict, deque

from funpipe._errors import ProgramError
from funpipe.programs.instructions import AllReduce, Instruction, PostRecv, Send, WaitRecv, WaitSend
from funpipe.programs.program import Programs
from funpipe.programs.rules.failure import failure, shortened
from funpipe.programs.text import instruction_text

RANKS_SHOWN = 8

Event = tuple[str, object]
"""What a rank waits for: a message sent or posted, or the last rank of a collective."""


def no_deadlock(programs: Programs) -> None:
    """Raises if ranks wait for each other; the line at which each one waits is named."""
    _Run(programs).check()


class _Run:
    """Where each rank is, what has happened, and who waits for what."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs.programs
        self.at = [0] * len(self.programs)
        self.happened: set[Event] = set()
        self.waiting: defaultdict[Event, list[int]] = defaultdict(list)
        self.entered: defaultdict[tuple[int, str], int] = defaultdict(int)
        self.present: defaultdict[Event, set[int]] = defaultdict(set)
        self.ready = deque(range(len(self.programs)))

    def check(self) -> None:
        while self.ready:
            self._advance(self.ready.popleft())
        stuck = [rank for rank, at in enumerate(self.at) if at < len(self.programs[rank].instructions)]
        if stuck:
            raise self._failure(stuck)

    def _advance(self, rank: int) -> None:
        """Runs a rank until it has to wait."""
        instructions = self.programs[rank].instructions
        while self.at[rank] < len(instructions):
            awaited = self._execute(rank, instructions[self.at[rank]])
            if awaited is not None and awaited not in self.happened:
                self.waiting[awaited].append(rank)
                return
            self.at[rank] += 1

    def _execute(self, rank: int, instruction: Instruction) -> Event | None:
        """Does what an instruction does for others, and gives what it waits for."""
        match instruction:
            case Send(message):
                self._happen(("sent", message))
            case PostRecv(message):
                self._happen(("posted", message))
            case WaitSend(message):
                return ("posted", message)
            case WaitRecv(message):
                return ("sent", message)
            case AllReduce(_, group) if group != "dp":
                return self._enter(rank, group)
        return None

    def _enter(self, rank: int, group: str) -> Event:
        event: Event = (group, self.entered[rank, group])
        self.present[event].add(rank)
        if len(self.present[event]) == len(self.programs):
            self._happen(event)
            self.entered[rank, group] += 1
        return event

    def _happen(self, event: Event) -> None:
        self.happened.add(event)
        self.ready.extend(self.waiting.pop(event, ()))

    def _failure(self, stuck: list[int]) -> ProgramError:
        waits = [f"rank {rank} at {self.at[rank]}, `{self._text(rank)}`" for rank in stuck[:RANKS_SHOWN]]
        more = "; ..." if len(stuck) > RANKS_SHOWN else ""
        first = self.programs[stuck[0]]
        what = f"deadlock: {'; '.join(waits)}{more}."
        remedy = "Move what one of them waits for, on the other rank, before the line at which that rank waits."
        return failure(first, self.at[stuck[0]], what, "waits for ever", remedy)

    def _text(self, rank: int) -> str:
        return shortened(instruction_text(self.programs[rank].instructions[self.at[rank]]))
