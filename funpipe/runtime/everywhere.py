"""Compiles a rank's program, together with all other ranks: alike, at the same time, and with one result for all."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from funpipe.backends import Executable, Request, compile
from funpipe.backends.compiled import CudaGraph
from funpipe.backends.installed import Endpoint, install, new_handle, uninstall
from funpipe.backends.sizes import Sizes
from funpipe.backends.transport import Transport
from funpipe.optim import Optimizer
from funpipe.programs.program import Programs
from funpipe.runtime.agreement import require_agreement, require_compiled
from funpipe.runtime.collecting import no_collecting
from funpipe.runtime.current import on
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.progress import Progress
from funpipe.runtime.transports import Distributed


@dataclass(frozen=True, eq=False)
class Job:
    """What is compiled, and for whom.

    Args:
        programs: of all ranks.
        rank: the pipeline rank of this process.
        backend: by name.
        optimizer: for updates; None if the programs have none.
        fuse: whether regions may be fused with each other.
        cuda_graph: whether the step becomes a CUDA graph.
        mesh, transport: to the other ranks; None where there are none.
        device: where the step runs; None: not known.
        sizes: that it is compiled for batches of every size; None: for its own.
    """

    programs: Programs
    rank: int
    backend: str
    optimizer: Optimizer | None = None
    fuse: bool = False
    cuda_graph: CudaGraph = "auto"
    mesh: Mesh | None = None
    transport: Transport | None = None
    device: torch.device | None = None
    sizes: Sizes | None = None


def compile_everywhere(job: Job) -> Executable:
    """Compiles this rank's program ahead of time; all ranks call it, and all of them wait for the slowest.

    Nothing is communicated but a check that all planned the same before, and whether all were compiled after: what each
    rank then sends, another is there to receive. The mesh's `timeout` is how long a rank waits.

    Args:
        job: what is compiled.

    Returns:
        This rank's program, ready to run.

    Raises:
        MeshError: the ranks planned different steps.
        CompileError: torch cannot compile it, on this rank or on another.

    Example:
        >>> from funpipe.passes import optimize
        >>> from funpipe.programs import lower
        >>> from funpipe.schedules import GPipe
        >>> from funpipe.stages import partition
        >>> from funpipe.tracing import trace
        >>> traced = trace(lambda p, x: (x @ p["w"]).sum(), {"w": torch.ones(3, 1)}, torch.ones(2, 3))
        >>> programs = optimize(lower(traced, partition(traced, ()), GPipe().table(1, 2)))
        >>> step = compile_everywhere(Job(programs, 0, "interpret"))
        >>> step([torch.ones(16), torch.tensor(0), torch.ones(4, 3)])["loss"]
        tensor(6.)
    """
    transport = job.transport
    if transport is not None and job.mesh is not None:
        require_agreement(job.programs, transport, job.mesh)
    handle = new_handle()
    if transport is not None:
        transport.open(job.programs.messages)
        install(handle, Endpoint(transport, job.programs.messages))
    try:
        executable = _together(job, handle)
    except BaseException:
        uninstall(handle)
        raise
    weakref.finalize(executable, uninstall, handle)  # the transport lives as long as what dispatches to it
    return executable


def _together(job: Job, handle: int) -> Executable:
    """This rank's part, once all ranks have theirs."""
    try:
        executable = _compiled(job, handle)
    except Exception as error:
        require_compiled(job.transport, job.mesh, error)
        raise
    except BaseException as error:  # interrupted: the others wait, and must not meet this rank later
        if isinstance(job.transport, Distributed):
            job.transport.give_up(error)
        raise
    require_compiled(job.transport, job.mesh)
    return executable


def _compiled(job: Job, handle: int) -> Executable:
    progress = Progress(dist.get_rank() if job.mesh is not None else 0)
    request = Request(job.rank, handle, job.fuse, progress, job.cuda_graph, job.sizes)
    try:
        with no_collecting(), on(job.device):
            example = _example(job) if job.fuse else []  # real memory, which nothing else reads
            return compile(job.backend, job.programs, request, job.optimizer, example)
    finally:
        progress.end()


def _example(job: Job) -> Sequence[Tensor]:
    """Inputs of the right types, without values."""
    kinds = [job.programs.types[n] for n in job.programs.programs[job.rank].inputs]
    return [torch.empty_strided(k.shape, k.stride, dtype=k.dtype, device=k.device) for k in kinds]
