"""The name of a message of a step, and its number among all of them."""

from dataclasses import dataclass

_FIRST_TAG = 1 << 20  # Far from the tags that users' own messages have.


@dataclass(frozen=True)
class Message:
    """One message of a step.

    Args:
        backward: whether it has gradients, and goes to an earlier stage.
        source: the stage that sends it.
        destination: the stage that receives it.
        microbatch: which one it is of.
    """

    backward: bool
    source: int
    destination: int
    microbatch: int

    def tag(self, num_stages: int, num_microbatches: int) -> int:
        """A number that no other message of the step has."""
        edge = (self.backward * num_stages + self.source) * num_stages + self.destination
        return _FIRST_TAG + edge * num_microbatches + self.microbatch
