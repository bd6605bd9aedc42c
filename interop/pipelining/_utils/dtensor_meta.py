"""What is known of a DTensor without its values: of this rank's shard, of the whole, and of its mesh."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from funpipe.interop.pipelining._utils.mesh_layout import MeshCacheKey, MeshLayout, key_of
from funpipe.interop.pipelining._utils.tensor_meta import _make_tensor_from_meta, _TensorMeta, differences

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor.placement_types import Placement


@dataclass(frozen=True)
class _DTensorMeta(_TensorMeta):
    """The shape, strides and dtype of this rank's shard, and how the whole is placed on which mesh."""

    global_shape: torch.Size = field(default_factory=lambda: torch.Size([]))
    global_stride: tuple[int, ...] = ()
    placements: tuple[Placement, ...] = ()
    mesh_dim_names: tuple[str, ...] = ()
    mesh_layout: MeshLayout | None = None

    @staticmethod
    def from_dtensor(dtensor: DTensor) -> _DTensorMeta:
        """Reads it off a DTensor.

        Args:
            dtensor: The DTensor.
        """
        local = dtensor.to_local()
        own = (local.shape, local.stride(), local.dtype, dtensor.requires_grad)
        return _DTensorMeta(
            *own, dtensor.shape, dtensor.stride(), tuple(dtensor.placements), *key_of(dtensor.device_mesh)
        )

    @property
    def mesh_cache_key(self) -> MeshCacheKey:
        """What the mesh is found by."""
        return self.mesh_dim_names, self.mesh_layout

    def to_dtensor(self, device: torch.device | str, mesh: DeviceMesh) -> DTensor:
        """A DTensor like that, with any values.

        Args:
            device: Where to make it.
            mesh: The mesh that its key stands for on this rank.
        """
        from torch.distributed.tensor import DTensor

        local = _make_tensor_from_meta(self, device)
        shape, stride = self.global_shape, self.global_stride
        local.requires_grad_(self.requires_grad)
        return DTensor.from_local(local, mesh, self.placements, run_check=False, shape=shape, stride=stride)

    def get_diff(self, other: _TensorMeta) -> list[str]:
        """Says in what another one differs.

        Args:
            other: The other one.
        """
        found = super().get_diff(other)
        if not isinstance(other, _DTensorMeta):
            return [*found, f"type: {type(self).__name__} vs {type(other).__name__}"]
        names = ("global_shape", "global_stride", "placements", "mesh_dim_names", "mesh_layout")
        return found + differences(self, other, names)
