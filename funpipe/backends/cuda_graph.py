"""CUDA graphs: which steps become one, and how one is recorded."""

from collections.abc import Callable
from typing import Protocol

import torch

from funpipe._errors import CompileError
from funpipe.backends.captured import Captured, Recordable, Results
from funpipe.backends.compiled import CudaGraph, Executable
from funpipe.programs.instructions import AllReduce, PostRecv, Send
from funpipe.programs.program import Program


def record(run: Callable[[], Results]) -> tuple[Callable[[], object], Results]:
    """Records a function as a CUDA graph of the current device; a `Recorder`.

    Args:
        run: starts kernels, and waits for none.

    Returns:
        What replays it, and the tensors that hold its results after each replay.

    Raises:
        RuntimeError: the function waits for the device; what it raised, and not that the recording was broken off then.
    """
    graph = torch.cuda.CUDAGraph()
    # A stream of this device: torch's own for recordings is of the one that was current at the first recording. Other
    # threads may go on, a loader of batches among them. And the stream before is current again after an error, too.
    recording = torch.cuda.graph(graph, stream=torch.cuda.Stream(), capture_error_mode="thread_local")
    broken: RuntimeError | None = None
    try:
        with torch.cuda.stream(torch.cuda.current_stream()), recording:
            try:
                results = run()
            except RuntimeError as error:
                broken = error
                raise
    except RuntimeError as error:
        raise (broken or error) from None
    return graph.replay, results


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
    return ""
