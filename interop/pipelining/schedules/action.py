"""One action of a schedule: what a rank does, for which stage and which microbatch.

2F0  2B0  2I0  2W0             forward, whole backward, gradient of the inputs, gradient of the weights
2SEND_F0  3RECV_F0             the result of stage 2 leaves for stage 3, and arrives there
3SEND_B0  2RECV_B0             the gradient for the result of stage 2 leaves stage 3, and arrives there
2UNSHARD  2RESHARD             the stage's parameters are gathered, and let go
2REDUCE_GRAD                   the stage's gradients are summed over its replicas, and scaled
(2F1;5B0)OVERLAP_F_B           two at once
                               nothing at all: idle, None
"""

import re
from typing import NamedTuple

from funpipe.interop.pipelining.errors import PipeRuntimeError
from funpipe.interop.pipelining.schedules.computation_type import COMPUTES, OVERLAP_F_B, _ComputationType

# Longest first, so that F is not read where SEND_F is written; more digits are refused before a number is made of them.
_KINDS = "|".join(sorted((k.value for k in _ComputationType if k is not OVERLAP_F_B), key=len, reverse=True))
_SINGLE = re.compile(f"([0-9]{{1,9}})({_KINDS})([0-9]{{1,9}})?")
_COMPOUND = re.compile(r"\(([^()]*)\)OVERLAP_F_B")


class _Action(NamedTuple):
    """One action; unpacks into its four fields, and prints as its text.

    Args:
        stage_index: the stage; -1 for an overlap.
        computation_type: the kind.
        microbatch_index: the microbatch; None where there is none.
        sub_actions: the actions of an overlap; None for any other kind.

    Example:
        >>> stage, kind, microbatch, parts = _Action.from_str("2F1")
        >>> stage, kind.name, microbatch, parts
        (2, 'FORWARD', 1, None)
        >>> _Action.from_str("(2F1;5B0)OVERLAP_F_B")
        (2F1;5B0)OVERLAP_F_B
    """

    stage_index: int
    computation_type: _ComputationType
    microbatch_index: int | None = None
    sub_actions: "tuple[_Action, ...] | None" = None

    def __str__(self) -> str:
        if self.sub_actions:
            return f"({';'.join(map(str, self.sub_actions))}){self.computation_type.value}"
        microbatch = "" if self.microbatch_index is None else self.microbatch_index
        return f"{self.stage_index}{self.computation_type.value}{microbatch}"

    __repr__ = __str__

    @property
    def is_compute_op(self) -> bool:
        """Whether it computes rather than communicates."""
        return self.computation_type in COMPUTES

    @staticmethod
    def from_str(action_string: str) -> "_Action | None":
        """Reads what `str(action)` writes.

        Args:
            action_string: the whole text; spaces around it do not count.

        Returns:
            The action; None for an empty text, which is an idle cell.

        Raises:
            PipeRuntimeError: the text is anything else, also if only its beginning is an action.
        """
        text = action_string.strip(" \t\r\n")
        if not text:
            return None
        if match := _COMPOUND.fullmatch(text):
            parts = tuple(_single(part.strip(" \t")) for part in match[1].split(";"))
            return _Action(-1, OVERLAP_F_B, None, parts)
        return _single(text)


def _single(text: str) -> _Action:
    match = _SINGLE.fullmatch(text)
    if match is None:
        shown = ascii(text[:40])[1:-1]
        raise PipeRuntimeError(
            f"Invalid action string: {shown}, should be formatted as [stage][action type][(microbatch)] e.g. 2F0"
        )
    return _Action(int(match[1]), _ComputationType(match[2]), None if match[3] is None else int(match[3]))


def parts(action: _Action) -> tuple[_Action, ...]:
    """The actions that an action is made of: those of an overlap, or itself.

    Example:
        >>> parts(_Action.from_str("(2F1;5B0)OVERLAP_F_B"))
        (2F1, 5B0)
    """
    return action.sub_actions or (action,)


def _get_profiler_function_name(action: _Action) -> str:
    """How an action is called in a profile.

    Args:
        action: the action.

    Returns:
        Its text with PP: before it.

    Example:
        >>> _get_profiler_function_name(_Action.from_str("2F0"))
        'PP:2F0'
    """
    return f"PP:{action}"
