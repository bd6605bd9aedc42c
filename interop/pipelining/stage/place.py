"""Where a stage is: its process among those of the pipeline's group."""

import torch.distributed as dist

from funpipe.interop.pipelining.errors import PipeRuntimeError, PipeValueError


def rank_and_size(group: dist.ProcessGroup | None) -> tuple[int, int]:
    """This process's rank in the group and the group's size; `(0, 1)` where no process group was started.

    Args:
        group: a process group; None: the default one.

    Example:
        >>> rank_and_size(None)
        (0, 1)
    """
    if not dist.is_available() or not dist.is_initialized():
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def check_place(stage_index: int, num_stages: int, group_size: int) -> None:
    """Refuses a stage that the pipeline does not have, and more processes than stages.

    Raises:
        PipeValueError: the index is not below the number of stages.
        PipeRuntimeError: there are more processes than stages.
    """
    if not 0 <= stage_index < num_stages:
        nearest = f"the last one is {num_stages - 1}" if num_stages > 0 else "pass num_stages=1 or more"
        raise PipeValueError(f"Stage index {stage_index} is out of range of {num_stages}; {nearest}")
    if group_size > num_stages:
        raise PipeRuntimeError(
            f"Pipeline group size {group_size} cannot be larger than number of stages {num_stages}; "
            f"start {num_stages} processes, or cut the model into {group_size} stages"
        )


def in_turns(num_stages: int, group_size: int) -> dict[int, int]:
    """The rank of each stage when the ranks take stages in turns, which is what holds until a schedule says otherwise.

    Example:
        >>> in_turns(4, 2)
        {0: 0, 1: 1, 2: 0, 3: 1}
    """
    return {stage: stage % group_size for stage in range(num_stages)}
