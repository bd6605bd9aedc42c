"""The axes of the mesh that a step runs on: their sizes, and this rank's place along each.

Sizes are numbers, known when a step is traced. A place differs from rank to rank, and all ranks share one graph, so it
is a tensor that the step is given.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from torch import Tensor

from funpipe._errors import CommunicationError
from funpipe._typing import MeshShape

AxisName = str | tuple[str, ...]
"""An axis of the mesh, `"dp"` or `"pp"`, or both as `("dp", "pp")`, which is also called `"world"`."""

NAMES = ("dp", "pp")
"""The axes, in the order in which they number the ranks: neighbours differ in pp."""


@dataclass(frozen=True)
class Members:
    """Those that take part in a collective: all ranks that differ along an axis alone.

    Args:
        axis: what the operators of communication call them: "dp", "pp" or "world".
        size: how many they are.
    """

    axis: str
    size: int


@dataclass(frozen=True)
class _Place:
    shape: MeshShape
    index: Mapping[str, Tensor] = field(default_factory=dict)


_place: ContextVar[_Place | None] = ContextVar("funpipe_mesh_place", default=None)


@contextmanager
def on_mesh(shape: MeshShape, index: Mapping[str, Tensor] | None = None) -> Iterator[None]:
    """While open, collectives know how many ranks take part; `fp.trace_step` opens it.

    Args:
        shape: of the mesh.
        index: this rank's place along "dp" and "pp", 0-dim int64 tensors; needed by `axis_index` alone.

    Returns:
        Nothing; it is for a `with` statement.

    Example:
        >>> with on_mesh(MeshShape(pp=2, dp=3)):
        ...     axis_size("dp"), axis_size(("dp", "pp"))
        (3, 6)
    """
    token = _place.set(_Place(shape, index or {}))
    try:
        yield
    finally:
        _place.reset(token)


def axis_size(axis: AxisName) -> int:
    """The number of ranks along an axis of the mesh.

    Args:
        axis: "dp", "pp" or ("dp", "pp").

    Returns:
        A Python number: 1 where there is no other rank.

    Raises:
        CommunicationError: there is no such axis, or no step is being traced.

    Example:
        >>> with on_mesh(MeshShape(pp=2, dp=3)):
        ...     axis_size("pp")
        2
    """
    return members_along(axis, "axis_size").size


def axis_index(axis: AxisName) -> Tensor:
    """This rank's place along an axis of the mesh, from 0; ranks along ("dp", "pp") are numbered row by row.

    It differs between ranks that run the same graph, so it is an input of the step, `axis.dp` or `axis.pp`.

    Args:
        axis: "dp", "pp" or ("dp", "pp").

    Returns:
        A 0-dim int64 tensor on the CPU.

    Raises:
        CommunicationError: there is no such axis, or no step is being traced.

    Example:
        >>> import torch
        >>> with on_mesh(MeshShape(pp=2, dp=3), {"dp": torch.tensor(2), "pp": torch.tensor(1)}):
        ...     axis_index(("dp", "pp"))
        tensor(5)
    """
    wanted = members_along(axis, "axis_index", ordered=True).axis
    if wanted != "world":
        return _index(wanted)
    return _index("dp") * axis_size("pp") + _index("pp")


def members_along(axis: AxisName, what: str, ordered: bool = False) -> Members:
    """The ranks that take part in a collective.

    Args:
        axis: as the user passed it.
        what: the function that was called.
        ordered: whether it matters in which order the ranks come.

    Raises:
        CommunicationError: there is no such axis, it is not in the order of the mesh, or no step is being traced.
    """
    name = _name_of(axis, what, ordered)
    place = _open_place(what)
    sizes = {"dp": place.shape.dp, "pp": place.shape.pp, "world": place.shape.dp * place.shape.pp}
    return Members(name, sizes[name])


def _index(axis: str) -> Tensor:
    place = _open_place("axis_index")
    if axis not in place.index:
        raise CommunicationError(
            f"axis_index({axis!r}): this rank's place on the mesh is not known here; call it in a step that "
            "fp.trace_step traces, or pass index= to on_mesh."
        )
    return place.index[axis]


def _open_place(what: str) -> _Place:
    place = _place.get()
    if place is None:
        raise CommunicationError(
            f"{what} was called outside a step, where the mesh is not known: call it in a function that "
            "fp.trace_step(step, state, batch, mesh=mesh) traces."
        )
    return place


def _name_of(axis: AxisName, what: str, ordered: bool) -> str:
    asked = axis if isinstance(axis, tuple) else (axis,)
    if asked == ("world",) or asked == NAMES:
        return "world"
    if len(asked) == 2 and set(asked) == set(NAMES):
        if ordered:
            raise CommunicationError(
                f"{what}: axis is {axis!r}, and the ranks of a mesh are numbered along dp, then pp: pass ('dp', 'pp')."
            )
        return "world"
    if len(asked) != 1 or asked[0] not in NAMES:
        raise CommunicationError(f"{what}: the mesh has no axis {axis!r}; use 'dp', 'pp' or ('dp', 'pp').")
    return asked[0]
