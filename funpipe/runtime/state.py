"""`State`: what a step carries from one call to the next, on one rank."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from funpipe._errors import StateError

Status = Literal["ready", "running", "consumed", "unfinished"]


@dataclass
class State:
    """Parameters, optimizer slots, buffers and the step count of one rank; opaque, and used once.

    A step consumes the state it is given, because it overwrites its memory: keep the state that it returns.

    Args:
        values: by the names that programs use.
        signature: what layout and optimizer the values belong to.
        status: `"ready"`, or why it cannot be used.
    """

    values: dict[str, Tensor]
    signature: str
    status: Status = "ready"

    @property
    def step(self) -> int:
        """How many updates were made."""
        return int(self.values["step"])

    def require(self, signature: str) -> None:
        """Raises unless this state is of the given layout and optimizer, and may be used.

        Args:
            signature: of the step that wants to use it.

        Raises:
            StateError: it is of another step, was consumed, or its step did not finish.
        """
        self.require_usable()
        self.require_layout(signature)

    def require_layout(self, signature: str) -> None:
        """Raises unless this state is of the given layout and optimizer."""
        if self.signature != signature:
            raise StateError(
                f"this state belongs to another step ({_first_difference(self.signature, signature)}): use the state "
                "that this step's own init, load or call returned."
            )

    def require_usable(self) -> None:
        """Raises unless the state's values are whole."""
        if self.status == "consumed":
            raise StateError(
                "this state was consumed by the step it was passed to: use the state that the step returned, as in "
                "state, metrics = step(state, batch)."
            )
        if self.status in ("running", "unfinished"):
            raise StateError(
                "the step that used this state raised or was interrupted, so its values may be half updated: start "
                "again from a checkpoint with step.load."
            )

    def __repr__(self) -> str:
        size = sum(v.numel() * v.element_size() for v in self.values.values())
        return f"State({self.status}, {len(self.values)} values, {size} bytes on this rank)"


def _first_difference(have: str, want: str) -> str:
    lines = zip(have.splitlines(), want.splitlines(), strict=False)
    return next((f"it has {a!r}, the step has {b!r}" for a, b in lines if a != b), "one has more leaves")
