"""Whether rows of computations are a schedule: each stage on one rank, each microbatch once, backwards last."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from funpipe.interop.pipelining.errors import PipeAssertionError
from funpipe.interop.pipelining.schedules.action import _Action, parts
from funpipe.interop.pipelining.schedules.computation_type import (
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    FULL_BACKWARD,
    _ComputationType,
)
from funpipe.interop.pipelining.schedules.formatting import _format_pipeline_order
from funpipe.interop.pipelining.schedules.grid import Rows

_NEEDS: dict[_ComputationType, tuple[str, _ComputationType, str]] = {
    FULL_BACKWARD: ("Full Backward", FORWARD, "Forward"),
    BACKWARD_INPUT: ("Backward Input", FORWARD, "Forward"),
    BACKWARD_WEIGHT: ("Backward Weight", BACKWARD_INPUT, "Backward Input"),
}
"""For each kind of backward its name, the kind that comes before it on its stage, and that one's name."""

_Done = dict[int, dict[_ComputationType, set[int | None]]]
"""For each stage and kind the microbatches that were run."""


def _validate_schedule(actions: Rows, pp_group_size: int, num_stages: int, num_microbatches: int) -> dict[int, int]:
    """Checks rows of computations, and finds the rank of each stage. Whether ranks wait for each other is not asked.

    Args:
        actions: for each rank its computations; what else stands there is passed over.
        pp_group_size: how many ranks there must be.
        num_stages: how many stages there must be.
        num_microbatches: how many microbatches each stage must run.

    Returns:
        The rank of each stage.

    Raises:
        PipeAssertionError: a rank is missing; something is no action; a stage is on two ranks, or does not exist; a
            microbatch is missing or does not exist; a backward comes before what it needs.

    Example:
        >>> row = [_Action.from_str(text) for text in ("0F0", "0I0", "0W0")]
        >>> _validate_schedule({0: row}, pp_group_size=1, num_stages=1, num_microbatches=1)
        {0: 0}
    """
    _require_ranks(actions, pp_group_size)
    ranks: dict[int, int] = {}
    done: _Done = defaultdict(lambda: defaultdict(set))
    again = ""
    for rank, step, action in _computations(actions):
        _require_order(actions, rank, step, action, done)
        _require_in_range(rank, step, action, num_stages, num_microbatches)
        if ranks.setdefault(action.stage_index, rank) != rank:
            raise PipeAssertionError(
                f"{_at(rank, step)}Stage {action.stage_index} is assigned to both rank {rank} and rank "
                f"{ranks[action.stage_index]}; move {action} to one of them."
            )
        before = done[action.stage_index][action.computation_type]
        if action.microbatch_index in before:
            again = again or f"{_at(rank, step)}{action} a second time; remove one of the two."
        before.add(action.microbatch_index)
    for stage in range(num_stages):
        _require_all(stage, done[stage], num_microbatches)
    if again:
        raise PipeAssertionError(again)
    return ranks


def _require_ranks(actions: Rows, pp_group_size: int) -> None:
    if len(actions) != pp_group_size:
        raise PipeAssertionError(
            f"Schedule has incorrect number of ranks - expected {pp_group_size}, actual {len(actions)}; "
            "give each rank its actions."
        )
    for rank in range(pp_group_size):
        if rank not in actions:
            raise PipeAssertionError(f"Schedule is missing actions for rank {rank}; number the ranks from 0.")


def _computations(actions: Rows) -> Iterator[tuple[int, int, _Action]]:
    """Each computation with its rank and step, those of overlaps one by one; nothing that is idle or communicates."""
    for rank in sorted(actions):
        for step, action in enumerate(actions[rank]):
            if action is not None and not isinstance(action, _Action):
                raise PipeAssertionError(_no_action(rank, step, action))
            found = () if action is None else parts(action)
            yield from ((rank, step, part) for part in found if part.is_compute_op)


def _no_action(rank: int, step: int, given: Any) -> str:
    shown = ascii(given) if isinstance(given, str) else repr(given)
    remedy = "use _Action.from_str for its text" if isinstance(given, str) else "or None where the rank is idle"
    return (
        f"{_at(rank, step)}Got an invalid action: {shown[:40].strip(chr(39))}, expected instance of _Action; {remedy}."
    )


def _require_order(actions: Rows, rank: int, step: int, action: _Action, done: _Done) -> None:
    """What the action needs of its own stage was run before."""
    name, needed, what = _NEEDS.get(action.computation_type, ("", None, ""))
    if needed is None or action.microbatch_index in done[action.stage_index][needed]:
        return
    raise PipeAssertionError(
        f"{_at(rank, step)}Running {name} for stage {action.stage_index}, microbatch {action.microbatch_index} without "
        f"first running {what}\n\nFull pipeline schedule:\n{_format_pipeline_order(actions, step)}"
    )


def _require_in_range(rank: int, step: int, action: _Action, num_stages: int, num_microbatches: int) -> None:
    """The stage and the microbatch exist."""
    if not 0 <= action.stage_index < num_stages:
        raise PipeAssertionError(f"{_at(rank, step)}{action}: stages are 0 to {num_stages - 1}; correct the stage.")
    if action.microbatch_index is None or not 0 <= action.microbatch_index < num_microbatches:
        raise PipeAssertionError(
            f"{_at(rank, step)}{action}: microbatches are 0 to {num_microbatches - 1}; correct the microbatch."
        )


def _require_all(stage: int, done: dict[_ComputationType, set[int | None]], num_microbatches: int) -> None:
    """Each microbatch has its forward, and its backward whole or in two parts."""
    f, b, i, w = (done.get(kind, set()) for kind in (FORWARD, FULL_BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT))
    invalid = f"Invalid backward microbatches for stage {stage}: "
    if len(f) != num_microbatches:
        raise PipeAssertionError(
            f"Got {len(f)} {FORWARD} microbatches for stage {stage}, expected {num_microbatches}; "
            "run each microbatch once."
        )
    if i != w:
        text = f"I and W must have equal counts, but got I={len(i)}, W={len(w)}"
        raise PipeAssertionError(f"{invalid}{text}; give each microbatch both, or a B.")
    if len(b | i) != num_microbatches or b & i:
        text = f"expected {num_microbatches} total backwards, but got B={len(b)}, I={len(i)}, W={len(w)}"
        raise PipeAssertionError(f"{invalid}{text}; give each microbatch a B, or an I and a W.")


def _at(rank: int, step: int) -> str:
    return f"Rank {rank}, step {step}: "
