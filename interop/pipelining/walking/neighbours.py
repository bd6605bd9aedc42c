"""Which messages an action receives and sends, and what is handed over without one.

Messages between neighbouring stages are actions of their own (SEND_F, RECV_F, SEND_B, RECV_B). What skips stages has
none: it is received by the action that needs it and sent by the one that made it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from funpipe.interop.pipelining.errors import PipeRuntimeError
from funpipe.interop.pipelining.schedules import _Action, _ComputationType
from funpipe.interop.pipelining.stage.edges import readers, sources
from funpipe.interop.pipelining.walking.message import Message

Kind = _ComputationType
_BACKWARDS = (Kind.FULL_BACKWARD, Kind.BACKWARD_INPUT)


@dataclass(frozen=True)
class Neighbours:
    """The stages of a rank and where the others are.

    Args:
        stages: those of this rank, by their index.
        ranks: the rank of each stage of the pipeline.
        has_backward: whether there are gradients.
    """

    stages: dict[int, Any]
    ranks: dict[int, int]
    has_backward: bool
    _known: dict[int, tuple[list[int], list[int]]] = field(default_factory=dict)

    def sources_and_readers(self, stage: int) -> tuple[list[int], list[int]]:
        """The stages that a stage reads from, and those that read from it."""
        if stage not in self._known:
            self._known[stage] = sources(self.stages[stage]), list(readers(self.stages[stage]))
        return self._known[stage]

    def require(self, action: _Action) -> None:
        """An action is about stages of this rank.

        Raises:
            PipeRuntimeError: it is about another one.
        """
        for part in action.sub_actions or (action,):
            if part.stage_index not in self.stages:
                own = ", ".join(map(str, self.stages))
                raise PipeRuntimeError(
                    f"{part} is in the row of a rank that has stages {own}; move it to the rank of its stage"
                )

    def received_by(self, action: _Action) -> Iterator[Message]:
        """The messages that an action receives."""
        for part in action.sub_actions or (action,):
            yield from self._received_by(*part[:3])

    def sent_by(self, action: _Action) -> Iterator[Message]:
        """The messages that an action sends."""
        for part in action.sub_actions or (action,):
            yield from self._sent_by(*part[:3])

    def _received_by(self, stage: int, kind: Kind, microbatch: int | None) -> Iterator[Message]:
        if kind in (Kind.FORWARD, Kind.RECV_F):
            for source in self._elsewhere(stage, self.sources_and_readers(stage)[0], kind == Kind.RECV_F):
                yield Message(False, source, stage, microbatch or 0)
        elif self.has_backward and kind in (*_BACKWARDS, Kind.RECV_B):
            for reader in self._elsewhere(stage, self.sources_and_readers(stage)[1], kind == Kind.RECV_B):
                yield Message(True, reader, stage, microbatch or 0)

    def _sent_by(self, stage: int, kind: Kind, microbatch: int | None) -> Iterator[Message]:
        if kind in (Kind.FORWARD, Kind.SEND_F):
            for reader in self._elsewhere(stage, self.sources_and_readers(stage)[1], kind == Kind.SEND_F):
                yield Message(False, stage, reader, microbatch or 0)
        elif self.has_backward and kind in (*_BACKWARDS, Kind.SEND_B):
            for source in self._elsewhere(stage, self.sources_and_readers(stage)[0], kind == Kind.SEND_B):
                yield Message(True, stage, source, microbatch or 0)

    def _elsewhere(self, stage: int, others: list[int], neighbouring: bool) -> list[int]:
        """Those of some stages that are on other ranks and next to `stage`, or not next to it."""
        there = [other for other in others if other not in self.stages]
        return [other for other in there if (abs(other - stage) == 1) == neighbouring]

    def here(self, others: list[int]) -> list[Any]:
        """Those of some stages that are on this rank."""
        return [self.stages[other] for other in others if other in self.stages]
