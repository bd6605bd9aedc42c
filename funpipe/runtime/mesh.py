"""Which process plays which pipeline rank of which replica: a torch DeviceMesh with the dimensions ("dp", "pp").

The global rank is `dp_rank * pp + pp_rank`, so the ranks of one pipeline are neighbours: on a cluster they share a
machine, and what crosses machines is the sum of the gradients.
"""

import atexit
import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from funpipe._errors import MeshError
from funpipe._typing import MeshShape

SameHost = Literal["shared memory", "network"]


@dataclass(frozen=True)
class Mesh:
    """This process's place among all; made by `mesh`.

    Attributes:
        shape: number of pipeline ranks and of replicas.
        device_mesh: the torch mesh, dimensions ("dp", "pp").
        pp_rank: which rank of its pipeline this process is.
        dp_rank: which replica it belongs to.
        device: where its tensors live.
        timeout: seconds that a message or collective may take.
        owns_process_group: whether `close` ends torch's process group.
        same_host: how ranks of one host reach each other.
        group: the processes, where they are not all there are.
    """

    shape: MeshShape
    device_mesh: DeviceMesh
    pp_rank: int
    dp_rank: int
    device: torch.device
    timeout: float
    owns_process_group: bool
    same_host: SameHost = "shared memory"
    group: dist.ProcessGroup | None = None

    @property
    def world(self) -> dist.ProcessGroup:
        """The group of all processes of the mesh."""
        found = self.group if self.group is not None else dist.group.WORLD
        assert found is not None
        return found

    @property
    def closed(self) -> bool:
        """Whether `close` ran."""
        return self.device_mesh is None

    def close(self) -> None:
        """Ends the process group if `mesh` started it; runs by itself when the process ends.

        A thread of gloo lets go of a collective's tensors after its wait has returned, and aborts the process where
        Python (before 3.14) is being shut down by then. So the threads must end here: they do with the last reference
        to their group, of which the device mesh has one.
        """
        atexit.unregister(self.close)
        object.__setattr__(self, "device_mesh", None)
        object.__setattr__(self, "group", None)
        if self.owns_process_group and dist.is_initialized():
            dist.destroy_process_group()


def mesh(
    *,
    pp: int,
    dp: int = 1,
    device: str | torch.device | None = None,
    timeout: float = 1800.0,
    same_host: SameHost = "shared memory",
) -> Mesh:
    """Arranges all processes into `dp` replicas of a pipeline of `pp` ranks.

    Every process calls it with the same numbers. Starts torch's process group from the environment that torchrun or
    `launch` made, unless there is one already: gloo for the CPU, NCCL besides it for GPUs.

    Args:
        pp: number of pipeline ranks, at least 1.
        dp: number of replicas, at least 1.
        device: where this process's tensors live; None: GPU number LOCAL_RANK, or the CPU if there is no GPU.
        timeout: seconds that a message or collective may take before it is an error; waiting for a rank that still
            compiles counts.
        same_host: what carries small messages and all collectives between CPU ranks of one host: "shared memory"
            (Linux; a tenth of the latency, less than half the time of a large sum), or the "network", as between
            hosts. The results are the same, but for the last bits of sums over more than two ranks, which are added
            in the order of the ranks through shared memory, and in gloo's order over the network.

    Returns:
        This process's place.

    Raises:
        MeshError: pp * dp is not the number of processes, a size is below 1, there is no GPU for this process, or
            same_host is something else.

    Example:
        >>> alone = mesh(pp=1, device="cpu")
        >>> alone.shape, alone.pp_rank, alone.dp_rank
        (MeshShape(pp=1, dp=1), 0, 0)
        >>> alone.close()
    """
    shape = MeshShape(pp, dp)
    _check(shape)
    if same_host not in get_args(SameHost):
        raise MeshError(f"same_host is {same_host!r}; use one of {', '.join(map(repr, get_args(SameHost)))}")
    place = _device(device)
    owns = not dist.is_initialized()
    if owns:
        _start(place, timeout)
    device_mesh = init_device_mesh(place.type, (dp, pp), mesh_dim_names=("dp", "pp"))
    dp_rank, pp_rank = divmod(dist.get_rank(), pp)
    made = Mesh(shape, device_mesh, pp_rank, dp_rank, place, timeout, owns, same_host)
    atexit.register(made.close)
    return made


def mesh_of(group: dist.ProcessGroup, *, device: str | torch.device | None = None, timeout: float = 1800.0) -> Mesh:
    """The processes of a group as the ranks of one pipeline, whatever else other processes do.

    Every process of the group calls it.

    Args:
        group: of torch; its ranks are the pipeline's.
        device: where this process's tensors live, as for `mesh`; the CPU only where the group is not all processes
            in their order.
        timeout: seconds that a message or collective may take before it is an error.

    Returns:
        This process's place.

    Raises:
        MeshError: the group is a part of all processes, or orders them otherwise, and the tensors live on GPUs.

    Example:
        >>> alone = mesh(pp=1, device="cpu")
        >>> part = mesh_of(dist.group.WORLD, device="cpu")
        >>> part.shape, part.pp_rank
        (MeshShape(pp=1, dp=1), 0)
        >>> part.close()
        >>> alone.close()
    """
    ranks = dist.get_process_group_ranks(group)
    if ranks == list(range(dist.get_world_size())):
        return mesh(pp=len(ranks), device=device, timeout=timeout)
    place = _device(device)
    if place.type != "cpu":
        raise MeshError(
            f"a group of the processes {ranks} of {dist.get_world_size()} makes no mesh of GPUs; use "
            "fp.mesh(pp=..., dp=...), which arranges all processes."
        )
    alone = dist.new_group([dist.get_rank()], use_local_synchronization=True)
    assert isinstance(alone, dist.ProcessGroup)
    arranged = DeviceMesh.from_group([alone, group], place.type, mesh=[ranks], mesh_dim_names=("dp", "pp"))
    shape = MeshShape(len(ranks))
    made = Mesh(shape, arranged, group.rank(), 0, place, timeout, False, group=group)
    atexit.register(made.close)
    return made


def _check(shape: MeshShape) -> None:
    """Raises unless the mesh is made of exactly all processes."""
    if shape.pp < 1 or shape.dp < 1:
        raise MeshError(
            f"a mesh needs pp and dp of at least 1, not pp={shape.pp}, dp={shape.dp}; pass positive numbers"
        )
    needed, present = shape.pp * shape.dp, _world_size()
    if needed != present:
        raise MeshError(
            f"mesh(pp={shape.pp}, dp={shape.dp}) needs pp * dp = {needed} processes, but there "
            f"{'is' if present == 1 else 'are'} {present}; start the script with: "
            f"torchrun --nproc-per-node {needed} {_script()}"
        )


def _world_size() -> int:
    """The number of processes, known before they are connected."""
    return dist.get_world_size() if dist.is_initialized() else int(os.environ.get("WORLD_SIZE", "1"))


def _script() -> str:
    """What the user would start again."""
    return Path(sys.argv[0]).name if sys.argv and sys.argv[0].endswith(".py") else "script.py"


def _device(device: str | torch.device | None) -> torch.device:
    """This process's device, made current if it is a GPU."""
    place = torch.device(device or ("cuda" if _has_gpu() else "cpu"))
    if place.type == "cuda":
        index = int(os.environ.get("LOCAL_RANK", "0")) if place.index is None else place.index
        if index >= torch.cuda.device_count():
            raise MeshError(
                f"this process needs GPU {index}, but the machine has {torch.cuda.device_count()}; "
                "start at most one process per GPU, or pass device='cpu'"
            )
        place = torch.device("cuda", index)
        torch.cuda.set_device(place)
    return place


def _has_gpu() -> bool:
    """Whether tensors should live on GPUs: not if the process group that exists cannot move them."""
    return torch.cuda.is_available() and not (dist.is_initialized() and dist.get_backend() == "gloo")


def _start(place: torch.device, timeout: float) -> None:
    """Starts the process group; a process started alone needs no environment and no port."""
    backend = "gloo" if place.type == "cpu" else "cpu:gloo,cuda:nccl"
    if "RANK" in os.environ:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    else:
        store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]: documented, but missing in torch's __all__
        dist.init_process_group(backend, rank=0, world_size=1, store=store, timeout=timedelta(seconds=timeout))
