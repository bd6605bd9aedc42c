"""CUDA graphs: which steps become one, and how one is recorded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from funpipe import _compat
from funpipe._errors import CompileError
from funpipe.backends.captured import Captured, Recordable, Results
from funpipe.backends.compiled import CudaGraph, Executable
from funpipe.programs.instructions import AllReduce, Keys, PostRecv, Send, Update
from funpipe.programs.program import Program


@dataclass(frozen=True, eq=False)
class Graph:
    """A CUDA graph; calling it replays it.

    Args:
        graph: recorded.
        pool: its own memory, or None: the allocator has no pools. The second here, because it has to outlive the graph.
    """

    graph: torch.cuda.CUDAGraph
    pool: torch.cuda.MemPool | None

    def __call__(self) -> None:
        self.graph.replay()


def record(run: Callable[[], Results]) -> tuple[Callable[[], object], Results]:
    """Records a function as a CUDA graph of the current device; a `Recorder`.

    Args:
        run: starts kernels, and waits for none.

    Returns:
        What replays it, and the tensors that hold its results after each replay.

    Raises:
        RuntimeError: the function waits for the device; what it raised, and not that the recording was broken off then.
            What the recording took is free again as soon as nobody holds the error, whose traceback holds tensors.
    """
    pool = torch.cuda.MemPool() if torch.cuda.get_allocator_backend() == "native" else None
    made = Graph(torch.cuda.CUDAGraph(), pool)
    try:
        return made, _recorded(made, run)
    except BaseException:
        made.graph.reset()
        if pool is not None:
            _compat.leave_pool(pool)
        raise


def _recorded(made: Graph, run: Callable[[], Results]) -> Results:
    """The function's results; its own error, where it raises one."""
    # A stream of this device: torch's own for recordings is of the one that was current at the first recording. Other
    # threads may go on, a loader of batches among them. And the stream before is current again after an error, too.
    stream = torch.cuda.Stream()
    pool: Any = made.pool and made.pool.id
    recording = torch.cuda.graph(made.graph, pool=pool, stream=stream, capture_error_mode="thread_local")
    failed, results = list[BaseException](), Results()
    try:
        with torch.cuda.stream(torch.cuda.current_stream()), recording:
            try:
                results = run()
            except BaseException as error:
                failed.append(error)
    except RuntimeError as error:  # what torch says of a recording that is broken comes second
        failed.append(error)
    try:
        if failed:
            raise failed[0]
        return results
    finally:
        failed.clear()  # an error that its own traceback holds would keep the recording's tensors


class Step(Recordable, Executable, Protocol):
    """An executable in two parts."""


def graphed(step: Step, wanted: CudaGraph, device: str, writes: bool) -> Executable:
    """A step that becomes a CUDA graph, if that is wanted and possible.

    Args:
        step: compiled.
        wanted: True, False or `"auto"`.
        device: where the state lives, `"cuda"` or another.
        writes: whether the step changes the state.
    """
    if wanted is False or _reason(step.program, device):
        return step
    return Captured(step, record, writes, required=wanted is True)


def check_possible(program: Program, wanted: CudaGraph, device: str) -> None:
    """Raises if a CUDA graph is wanted that cannot be; before anything is compiled.

    Args:
        program: of the rank.
        wanted: True, False or `"auto"`.
        device: where the state lives.

    Raises:
        CompileError: the reason.
    """
    if wanted is True and (reason := _reason(program, device)):
        raise CompileError(f"cuda_graph=True, but {reason}: leave cuda_graph='auto', which makes graphs where it can.")


def _reason(program: Program, device: str) -> str:
    """Why a program cannot become a CUDA graph."""
    if device != "cuda":
        return f"the state of rank {program.rank} is on the device {device!r}, not on a GPU"
    if any(isinstance(i, (Send, PostRecv, AllReduce)) for i in program.instructions):
        return f"rank {program.rank} exchanges messages with others within the step"
    kinds = {type(i) for i in program.instructions}
    if Keys in kinds and Update not in kinds:
        return f"rank {program.rank} draws random numbers by the count of steps, and nothing there counts them"
    return ""
