"""A rank's program as a graph of operators: what passes over graphs rewrite, with the meaning of `execute`.

    instruction               operators
    slice, zero, accumulate   as the interpreter runs them, traced
    run                       those of the region, for its microbatch
    send, wait_send, …        messages
    all_reduce                its start, and its wait right behind
    update                    one operator `update` of the flat bucket; or those it is made of
    free                      none: a graph frees what nothing reads

Values keep their names: a region's node `mm` of microbatch 2 is `mm_mb2`.
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from funpipe._errors import ProgramError
from funpipe.graphs.check import check
from funpipe.graphs.graph import Graph
from funpipe.optim import Optimizer
from funpipe.programs.graph_writer import GraphWriter
from funpipe.programs.program import Programs


def graph_of(
    programs: Programs,
    rank: int,
    optimizer: Optimizer | None = None,
    consts: Mapping[str, Tensor] | None = None,
    updates: Literal["node", "expanded"] = "node",
) -> Graph:
    """Writes the program of one rank as a graph.

    Its inputs are `state.NAME` and `batch.NAME` with the names that the program uses (`state.bucket.s0_float32`), its
    outputs `state.NAME` and, for what this rank's stages return, `aux.NAME`. Running it is running the program, to the
    bit; results are this replica's, as the program's are.

    Args:
        programs: of all ranks.
        rank: the pipeline rank.
        optimizer: what the programs were lowered with.
        consts: the tensors that the loss function closes over, by name (`traced.consts`).
        updates: `"node"`: an update is one operator, which passes split, merge and fuse; `"expanded"`: it is the
            operators that the optimizer runs.

    Returns:
        The graph.

    Raises:
        ProgramError: the program updates and there is no optimizer, it reads a constant that is not given, or there is
            no such rank.

    Example:
        >>> import torch, funpipe as fp
        >>> traced = fp.trace(lambda p, x: (x @ p["w"]).sum(), {"w": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> table = fp.schedules.GPipe().table(1, 2)
        >>> optimizer = fp.optim.sgd(0.1)
        >>> programs = fp.programs.lower(traced, fp.stages.partition(traced, ()), table, optimizer=optimizer)
        >>> graph = graph_of(programs, 0, optimizer)
        >>> list(graph.inputs), list(graph.outputs)
        (['state.bucket.s0_float32', 'state.step', 'batch.'], ['state.bucket.s0_float32', 'state.step', 'aux.loss'])
    """
    if not 0 <= rank < len(programs.programs):
        raise ProgramError(
            f"rank is {rank}, but there are {len(programs.programs)}: pass 0 to {len(programs.programs) - 1}."
        )
    if updates not in ("node", "expanded"):
        raise ProgramError(f"updates is {updates!r}; use 'node' or 'expanded'.")
    graph = GraphWriter(programs, rank, optimizer, consts or {}, updates).written()
    check(graph)
    return graph
