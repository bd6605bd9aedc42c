"""The reference interpreter: the programs of all ranks, of all replicas, in one process, one instruction at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from funpipe._errors import ProgramError
from funpipe.functional.objects import knowing
from funpipe.optim import Optimizer
from funpipe.programs.execute import Environment, execute
from funpipe.programs.instructions import AllReduce, Instruction, PostRecv, Send, WaitRecv, WaitSend
from funpipe.programs.program import Programs
from funpipe.programs.text import instruction_text

Place = tuple[int, int]
"""A replica and a pipeline rank."""


def interpret(
    programs: Programs, inputs: Sequence[Sequence[dict[str, Tensor]]], optimizer: Optimizer | None = None
) -> list[list[dict[str, Tensor]]]:
    """Runs one step of every rank of every replica in this process.

    Ranks take turns; one runs until it has to wait for another. This defines what programs mean.

    Args:
        programs: the programs.
        inputs: for each replica, for each pipeline rank, the tensors that its program names as inputs.
        optimizer: the update, if the programs have one.

    Returns:
        For each replica and rank all values at the end, by name: the new state, and the outputs.

    Raises:
        ProgramError: every rank waits for another (the instruction at which each one waits is named), or the programs
            update and there is no optimizer.

    Example:
        >>> import torch
        >>> from funpipe.programs import lower
        >>> from funpipe.schedules import GPipe
        >>> from funpipe.stages import partition
        >>> from funpipe.tracing import trace
        >>> x = torch.ones(2, 3)
        >>> traced = trace(lambda p, x: (x @ p["w"]).sum(), {"w": torch.ones(3, 1)}, x)
        >>> programs = lower(traced, partition(traced, ()), GPipe().table(1, 2))
        >>> programs.programs[0].inputs
        ('bucket.s0_float32', 'step', 'batch.')
        >>> weights = torch.ones(programs.layout.buckets[0].size)
        >>> [[values]] = interpret(
        ...     programs, [[{"bucket.s0_float32": weights, "step": torch.tensor(0), "batch.": torch.cat([x, 2 * x])}]]
        ... )
        >>> values["result.loss"]
        tensor(9.)
    """
    world = _World(programs, [[_Rank(Environment(programs, dict(v), optimizer)) for v in row] for row in inputs])
    with knowing(programs.objects):
        world.run()
    return [[rank.env.values for rank in row] for row in world.ranks]


@dataclass
class _Rank:
    """A rank, the instruction it is at, and how many collectives it has entered in each group."""

    env: Environment
    position: int = 0
    entered: dict[str, int] = field(default_factory=dict)
    waiting: bool = False


class _World:
    """All ranks with what is under way between them."""

    def __init__(self, programs: Programs, ranks: list[list[_Rank]]) -> None:
        self.programs, self.ranks = programs, ranks
        self.sent: dict[tuple[int, int], Tensor] = {}
        self.posted: set[tuple[int, int]] = set()
        self.sums: dict[tuple[object, ...], dict[Place, Tensor]] = {}

    def run(self) -> None:
        places = [(d, r) for d, row in enumerate(self.ranks) for r in range(len(row))]
        while not all(self._finished(p) for p in places):
            advanced = [self._advance(p) for p in places]
            if not any(advanced):
                raise ProgramError(self._deadlock_text(places))

    def _at(self, place: Place) -> _Rank:
        return self.ranks[place[0]][place[1]]

    def _finished(self, place: Place) -> bool:
        return self._at(place).position == len(self.programs.programs[place[1]].instructions)

    def _advance(self, place: Place) -> bool:
        """Runs a rank until it has to wait; whether it ran anything."""
        start = self._at(place).position
        while not self._finished(place) and self._step(place, self._next(place)):
            self._at(place).position += 1
        return self._at(place).position > start

    def _next(self, place: Place) -> Instruction:
        return self.programs.programs[place[1]].instructions[self._at(place).position]

    def _step(self, place: Place, instruction: Instruction) -> bool:
        """Runs one instruction; False if it has to wait."""
        env = self._at(place).env
        match instruction:
            case Send(message, value):
                self.sent[place[0], message] = env[value].clone()
            case PostRecv(message):
                self.posted.add((place[0], message))
            case WaitSend(message):
                return (place[0], message) in self.posted
            case WaitRecv(message, value):
                if (place[0], message) not in self.sent:
                    return False
                env.values[value] = self.sent.pop((place[0], message))
            case AllReduce():
                return self._all_reduce(place, instruction)
            case _:
                execute(instruction, env)
        return True

    def _all_reduce(self, place: Place, instruction: AllReduce) -> bool:
        rank, members = self._at(place), self._members(place, instruction.group)
        key = (instruction.group, members, rank.entered.get(instruction.group, 0))
        parts = self.sums.setdefault(key, {})
        if not rank.waiting:
            parts[place] = rank.env[instruction.value].clone()
        rank.waiting = len(parts) < len(members)
        if rank.waiting:
            return False
        total = parts[members[0]].clone()
        for member in members[1:]:
            total += parts[member]
        rank.env.values[instruction.value] = total
        rank.entered[instruction.group] = key[2] + 1
        return True

    def _members(self, place: Place, group: str) -> tuple[Place, ...]:
        everyone = [(d, r) for d, row in enumerate(self.ranks) for r in range(len(row))]
        same = {"dp": lambda p: p[1] == place[1], "pp": lambda p: p[0] == place[0], "world": lambda p: True}[group]
        return tuple(p for p in everyone if same(p))

    def _deadlock_text(self, places: list[Place]) -> str:
        stuck = [self._waits_text(p) for p in places if not self._finished(p)]
        return f"deadlock: every rank waits: {'; '.join(stuck)}. Check the programs with fp.programs.verify."

    def _waits_text(self, place: Place) -> str:
        return f"replica {place[0]} rank {place[1]} at `{instruction_text(self._next(place))}`"
