"""`Message`: one transfer between two ranks of a pipeline."""

from dataclasses import dataclass

from funpipe._typing import TensorType


@dataclass(frozen=True)
class Message:
    """One transfer of the plan, the same value on both ends.

    Args:
        id: its number, the same on both ends and in every step.
        src: the pipeline (pp) rank that sends.
        dst: the pipeline (pp) rank that receives.
        type: shape, strides, dtype and device type of the tensor; the strides must be dense (any order, no gaps).
        label: what a person reads in an error, such as "F 2->3 mb 4 value h".
        made_by: the task whose value is sent, such as "2F4"; empty at the end of a step.
        needed_by: the first task that it is received for.
    """

    id: int
    src: int
    dst: int
    type: TensorType
    label: str
    made_by: str = ""
    needed_by: str = ""

    def __str__(self) -> str:
        return f"message {self.id} ({self.label})"
