"""Which rank has which stages: in a loop over the ranks, or back and forth.

4 stages on 2 ranks     loop        v

rank 0                  0   2       0     3
rank 1                    1   3       1 2
"""

from funpipe.interop.pipelining.errors import PipeValueError


def generate_stage_to_rank_mapping(pp_size: int, num_stages: int, style: str = "loop") -> dict[int, int]:
    """The rank of each stage.

    Args:
        pp_size: How many ranks.
        num_stages: How many stages.
        style: "loop" starts over at rank 0 after the last rank, "v" turns round there.

    Returns:
        From stage to rank.

    Raises:
        PipeValueError: The style is another word; or, for "v", the ranks do not divide the stages.

    Example:
        >>> generate_stage_to_rank_mapping(2, 4)
        {0: 0, 1: 1, 2: 0, 3: 1}
        >>> generate_stage_to_rank_mapping(2, 4, style="v")
        {0: 0, 1: 1, 2: 1, 3: 0}
    """
    if style == "loop":
        return {stage: stage % pp_size for stage in range(num_stages)}
    if style == "v":
        _check_rounds(pp_size, num_stages)
        return {stage: _back_and_forth(stage, pp_size) for stage in range(num_stages)}
    raise PipeValueError(f"Style {style} is not supported; use 'loop' or 'v'.")


def generate_rank_to_stage_mapping(pp_size: int, num_stages: int, style: str = "loop") -> dict[int, list[int]]:
    """The stages of each rank that has some, in ascending order.

    Args:
        pp_size: How many ranks.
        num_stages: How many stages.
        style: As of `generate_stage_to_rank_mapping`.

    Returns:
        From rank to its stages.

    Raises:
        PipeValueError: As `generate_stage_to_rank_mapping`.

    Example:
        >>> generate_rank_to_stage_mapping(2, 4, style="v")
        {0: [0, 3], 1: [1, 2]}
    """
    stages: dict[int, list[int]] = {}
    for stage, rank in generate_stage_to_rank_mapping(pp_size, num_stages, style).items():
        stages.setdefault(rank, []).append(stage)
    return stages


def _back_and_forth(stage: int, pp_size: int) -> int:
    turn, position = divmod(stage, pp_size)
    return pp_size - 1 - position if turn % 2 else position


def _check_rounds(pp_size: int, num_stages: int) -> None:
    if num_stages % pp_size:
        nearest = max(1, round(num_stages / pp_size)) * pp_size
        raise PipeValueError(
            f"num_stages {num_stages} must be evenly divisible by pp_size {pp_size} for V schedules; "
            f"use {nearest} stages."
        )
