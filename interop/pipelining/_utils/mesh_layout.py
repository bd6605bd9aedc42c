"""How the ranks of a mesh lie to each other: the same on every rank that has a mesh of this kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


@dataclass(frozen=True)
class MeshLayout:
    """For each dimension of a mesh, how far its ranks are from the first.

    A mesh is told to another stage by its names and this, since the ranks themselves are others there.

    Args:
        axes: For each dimension the differences; `((0, 2), (0, 1))` for the ranks `[[4, 5], [6, 7]]`.
    """

    axes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(mesh: DeviceMesh) -> MeshLayout:
        """The layout of a mesh.

        Args:
            mesh: Any mesh.
        """
        ranks = mesh.mesh
        lines = [ranks.movedim(dim, 0).flatten(1)[:, 0] if ranks.ndim > 1 else ranks for dim in range(ranks.ndim)]
        return MeshLayout(tuple(tuple((line - line[0]).tolist()) for line in lines))


MeshCacheKey: TypeAlias = "tuple[tuple[str, ...], MeshLayout | None]"


def key_of(mesh: DeviceMesh) -> MeshCacheKey:
    """What a mesh is found by: the names of its dimensions and its layout.

    Args:
        mesh: Any mesh.
    """
    return tuple(mesh.mesh_dim_names or ()), MeshLayout.of(mesh)
