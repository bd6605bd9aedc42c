"""The meshes of this rank, by what other stages call them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from funpipe.interop.pipelining._utils.local import is_dtensor
from funpipe.interop.pipelining._utils.mesh_layout import MeshCacheKey, MeshLayout, key_of
from funpipe.interop.pipelining.errors import PipeliningMetadataError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class GetMeshCallback(Protocol):
    """A user's function that finds this rank's mesh of given names and layout."""

    def __call__(self, mesh_dim_names: tuple[str, ...], mesh_layout: MeshLayout | None) -> DeviceMesh:
        """The mesh."""
        ...


class _MeshCache:
    """Finds the mesh of a DTensor that another stage sends.

    Args:
        get_mesh_cb: Asked once for each mesh that this rank's own DTensors do not have.
    """

    def __init__(self, get_mesh_cb: GetMeshCallback | None = None) -> None:
        self._meshes: dict[MeshCacheKey, DeviceMesh] = {}
        self._get_mesh = get_mesh_cb

    def get_mesh(self, key: MeshCacheKey) -> DeviceMesh:
        """The mesh that a key stands for.

        Args:
            key: Names and layout.

        Raises:
            PipeliningMetadataError: There is none, or the callback gives none of these names and sizes.
        """
        if key not in self._meshes:
            self._meshes[key] = self._asked(key)
        return self._meshes[key]

    def put(self, key: MeshCacheKey, mesh: DeviceMesh) -> None:
        """Keeps a mesh.

        Args:
            key: Names and layout.
            mesh: What they stand for on this rank.
        """
        self._meshes[key] = mesh

    def update_from_tensors(self, tensors: tuple[Tensor | None, ...]) -> None:
        """Keeps the meshes of all DTensors among some tensors.

        Args:
            tensors: Tensors of any kind, and None.
        """
        for tensor in tensors:
            if is_dtensor(tensor):
                self.put(key_of(tensor.device_mesh), tensor.device_mesh)

    def __contains__(self, key: MeshCacheKey) -> bool:
        return key in self._meshes

    def __len__(self) -> int:
        return len(self._meshes)

    def _asked(self, key: MeshCacheKey) -> DeviceMesh:
        names, layout = key
        if self._get_mesh is None:
            raise PipeliningMetadataError(
                f"Mesh not found in cache for mesh_dim_names={names}, mesh_layout={layout}, and there is no callback; "
                f"pass get_mesh to PipelineStage, or its input_args and output_args as DTensors."
            )
        mesh = self._get_mesh(names, layout)
        if mesh is None or tuple(mesh.mesh_dim_names or ()) != names or not _fits(mesh, layout):
            raise PipeliningMetadataError(
                f"Mesh lookup failed: callback returned {mesh} for mesh_dim_names={names}, mesh_layout={layout}; "
                f"return the mesh of these names and sizes on this rank."
            )
        return mesh


def _fits(mesh: DeviceMesh, layout: MeshLayout | None) -> bool:
    return layout is None or tuple(mesh.shape) == tuple(map(len, layout.axes))
