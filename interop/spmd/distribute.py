"""`Schema`: how a tensor of a step lies on the ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Placement


@dataclass
class Schema:
    """How a placeholder or an output of a step lies on the ranks.

    Args:
        mesh: of the ranks.
        placements: one for each of its dimensions.

    Example:
        >>> from torch.distributed.tensor import Shard
        >>> Schema(None, [Shard(0)]).placements
        [Shard(dim=0)]
    """

    mesh: DeviceMesh
    placements: Sequence[Placement]
