"""`Event`: one instruction of a step, and when it ran."""

from dataclasses import dataclass

SHARES: dict[str, tuple[str, ...]] = {
    "compute": (
        *("F", "B", "I", "W", "overlap"),
        *("slice", "zero", "accumulate", "flatten", "scale", "squares", "reduce", "constant", "free", "start", "end"),
        *("keys", "cast", "overflow"),
    ),
    "communication": ("send", "post_recv", "all_reduce"),
    "bubble": ("wait_recv", "wait_send"),
    "update": ("update", "store", "rescale", "choose"),
    "host": ("before", "after"),
}
"""What each kind of event counts as."""

_SHARE = {kind: share for share, kinds in SHARES.items() for kind in kinds}


@dataclass(frozen=True)
class Event:
    """A stretch of a rank's time.

    Args:
        rank: the global rank.
        text: the instruction as the program writes it; several lines where one call does several: an update, with the
            scaling before it.
        kind: F, B, I, W for a region, `overlap` for two at once; the program's word for any other instruction (`send`,
            `wait_recv`, `update`); `before` and `after` for what the host does around the compiled step (checks,
            agreement of the ranks, arguments; state and metrics), `start` and `end` for the views, the optimizer's
            numbers and the count of steps that stand around its instructions.
        stage: which stage it belongs to; None if to none, or to several.
        microbatch: which microbatch; None if to none.
        start: in seconds, from the first event of all ranks, on a clock that they share.
        end: as `start`.
        message: the id of the message that is sent or received; None for others.
        nbytes: bytes that are sent, received or reduced.
    """

    rank: int
    text: str
    kind: str
    stage: int | None
    microbatch: int | None
    start: float
    end: float
    message: int | None = None
    nbytes: int = 0

    @property
    def name(self) -> str:
        """Short: `F3` is the forward of microbatch 3."""
        is_task = len(self.kind) == 1 and self.microbatch is not None
        return f"{self.kind}{self.microbatch}" if is_task else self.kind

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.end - self.start

    @property
    def share(self) -> str:
        """What it counts as: `compute`, `communication`, `bubble`, `update` or `host`."""
        return _SHARE[self.kind]
