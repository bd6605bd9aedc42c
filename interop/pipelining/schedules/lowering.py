"""From computations to a schedule with all its communication: the passes, in their order."""

from funpipe.interop.pipelining.schedules.action import _Action
from funpipe.interop.pipelining.schedules.defer_recv import _defer_recv_ops
from funpipe.interop.pipelining.schedules.grid import Rows
from funpipe.interop.pipelining.schedules.messages import StageToRank
from funpipe.interop.pipelining.schedules.reduce_grad import _add_reduce_grad
from funpipe.interop.pipelining.schedules.send_recv import _add_send_recv
from funpipe.interop.pipelining.schedules.unshard_reshard import _add_unshard_reshard


def lower(
    order: Rows,
    stage_to_rank: StageToRank,
    num_stages: int,
    n_microbatches: int,
    max_active_stages: int = 3,
    defer_pp_recv: bool = False,
) -> dict[int, list[_Action]]:
    """Rows of computations with UNSHARD, RESHARD, REDUCE_GRAD, SEND and RECV.

    Args:
        order: for each rank its computations; left as they are.
        stage_to_rank: gives the rank of a stage.
        num_stages: of the pipeline.
        n_microbatches: of a step.
        max_active_stages: as for `_add_unshard_reshard`.
        defer_pp_recv: whether receives are moved to where they are needed.

    Returns:
        New rows without idle cells.
    """
    with_parameters = {rank: _add_unshard_reshard(row, max_active_stages) for rank, row in order.items()}
    reduced = {rank: _add_reduce_grad(row, n_microbatches) for rank, row in with_parameters.items()}
    sent = _add_send_recv(reduced, stage_to_rank, num_stages)
    return _defer_recv_ops(sent, stage_to_rank) if defer_pp_recv else sent
