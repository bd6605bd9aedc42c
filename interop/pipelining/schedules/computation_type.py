"""What an action does: the kinds of computation and of communication, and the short names that they go by."""

from enum import Enum

from funpipe.interop.pipelining.errors import PipeRuntimeError


class _ComputationType(str, Enum):
    """The kind of an action; its value is how the action's text says it.

    Example:
        >>> _ComputationType.from_str("I"), _ComputationType.FULL_BACKWARD.value
        (<_ComputationType.BACKWARD_INPUT: 'I'>, 'B')
    """

    FORWARD = "F"
    BACKWARD_INPUT = "I"
    BACKWARD_WEIGHT = "W"
    FULL_BACKWARD = "B"
    OVERLAP_F_B = "OVERLAP_F_B"
    UNSHARD = "UNSHARD"
    RESHARD = "RESHARD"
    REDUCE_GRAD = "REDUCE_GRAD"
    SEND_F = "SEND_F"
    RECV_F = "RECV_F"
    SEND_B = "SEND_B"
    RECV_B = "RECV_B"

    def __str__(self) -> str:
        """The name with its class, on every version of Python."""
        return f"{type(self).__name__}.{self.name}"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    @staticmethod
    def from_str(action: str) -> "_ComputationType":
        """The kind whose value is `action`.

        Args:
            action: F, I, W, B, SEND_F, ...

        Returns:
            The kind.

        Raises:
            PipeRuntimeError: there is none; upper and lower case differ.
        """
        try:
            return _ComputationType(action)
        except ValueError:
            known = ", ".join(kind.value for kind in _ComputationType)
            raise PipeRuntimeError(f"Invalid computation type {str(action)[:40]}; use one of {known}.") from None


FORWARD = F = _ComputationType.FORWARD
BACKWARD_INPUT = I = _ComputationType.BACKWARD_INPUT
BACKWARD_WEIGHT = W = _ComputationType.BACKWARD_WEIGHT
FULL_BACKWARD = B = _ComputationType.FULL_BACKWARD
OVERLAP_F_B = _ComputationType.OVERLAP_F_B
UNSHARD = _ComputationType.UNSHARD
RESHARD = _ComputationType.RESHARD
REDUCE_GRAD = _ComputationType.REDUCE_GRAD
SEND_F = _ComputationType.SEND_F
RECV_F = _ComputationType.RECV_F
SEND_B = _ComputationType.SEND_B
RECV_B = _ComputationType.RECV_B

COMPUTES = (FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FULL_BACKWARD, OVERLAP_F_B)
"""The kinds that compute; the others communicate."""

SENDS = (SEND_F, SEND_B)
RECEIVES = (RECV_F, RECV_B)


def _requires_reduce_grad(action_type: _ComputationType) -> bool:
    """Whether an action of this kind adds to the gradients of the weights.

    Args:
        action_type: the kind.

    Returns:
        True for B and W.

    Example:
        >>> _requires_reduce_grad(W), _requires_reduce_grad(I)
        (True, False)
    """
    return action_type in (FULL_BACKWARD, BACKWARD_WEIGHT)
