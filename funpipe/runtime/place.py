"""`Place`: where graphs run: this process among the ranks, and its way to the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from funpipe._errors import MeshError
from funpipe.functional.communication import Communicator
from funpipe.programs.message import Message
from funpipe.runtime.communicator import TransportCommunicator
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.together import transport_of
from funpipe.runtime.transports import Distributed


@dataclass(frozen=True, eq=False)
class Place:
    """Where graphs run: this process's place among the ranks, and its way to them.

    Args:
        mesh: the processes; None: this one is alone.
        transport: to them.
        communicator: what graphs call; one for all graphs of a step, which may wait for what another has started.
        is_stage: whether the graphs are those of one pipeline rank, which only its replicas share.
    """

    mesh: Mesh | None
    transport: Distributed | None
    communicator: Communicator
    is_stage: bool = False

    @classmethod
    def of(cls, mesh: Mesh | None, messages: Sequence[Message] = ()) -> "Place":
        """The place of this process.

        Args:
            mesh: the processes; None: this one is alone.
            messages: of the plan, if graphs send any.

        Raises:
            MeshError: there are other processes, and no mesh.
        """
        if mesh is None:
            if dist.is_initialized() and dist.get_world_size() > 1:
                raise MeshError(
                    f"mesh is None, but there are {dist.get_world_size()} processes, and each would run the step by "
                    "itself: pass mesh=fp.mesh(pp=..., dp=...)."
                )
            return cls(None, None, TransportCommunicator())
        transport = transport_of(mesh)
        transport.open(messages)
        return cls(mesh, transport, TransportCommunicator(transport, messages), bool(messages))

    @property
    def device(self) -> torch.device:
        """Where constants go."""
        return self.mesh.device if self.mesh is not None else torch.device("cpu")

    @property
    def along(self) -> dict[str, int]:
        """This rank's number along each axis."""
        return {"dp": self.mesh.dp_rank, "pp": self.mesh.pp_rank} if self.mesh is not None else {"dp": 0, "pp": 0}
