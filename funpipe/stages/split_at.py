"""Cuts at modules, by their dotted path."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final, get_args

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.functional.names import nearest, quoted
from funpipe.stages.cutter import Cutter, cuts_at
from funpipe.tracing.traced import Traced

Point = Literal["beginning", "end"]
"""Before the first operation of a module, or after its last."""


@final
@dataclass(frozen=True)
class SplitAt(Cutter):
    """Cuts at modules; made by `split_at`.

    Args:
        points: pairs of a module's path and a point of it.
    """

    points: tuple[tuple[str, Point], ...]

    def __call__(self, traced: Traced) -> tuple[int, ...]:
        """The positions of the points."""
        named = [(_position(traced, path, point), f"the {point} of {path!r}") for path, point in self.points]
        return cuts_at(traced, named)


def split_at(points: Mapping[str, Point]) -> SplitAt:
    """Cuts before or after modules.

    Args:
        points: for each module to cut at, by its dotted path in the module that the loss function calls, "beginning"
            (a stage begins with the module) or "end" (a stage ends with it). A module's operations are its own and
            those of the modules in it; of one that is called several times, from the first call to the last.

    Returns:
        A cutter for one stage more than there are points.

    Raises:
        FunpipeTypeError: `points` is no mapping from paths.
        StageError: a point is neither "beginning" nor "end"; when it cuts: a module is unknown, was never called or
            has no operations, or a stage would be empty.

    Example:
        >>> import torch, funpipe as fp
        >>> module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        >>> apply, params, _ = fp.functionalize(module)
        >>> traced = fp.trace(lambda p, x: apply(p, {}, x)[0].sum(), params, torch.ones(5, 3))
        >>> fp.stages.split_at({"1": "beginning"})(traced) == fp.stages.split_at({"0": "end"})(traced)
        True
    """
    if not isinstance(points, Mapping):
        raise FunpipeTypeError(
            f"split_at got {points!r}; pass a dict from module paths to 'beginning' or 'end', such as "
            "{'layers.4': 'beginning'}."
        )
    for path, point in points.items():
        if not isinstance(path, str):
            raise FunpipeTypeError(f"split_at got the module path {path!r}; pass a str, such as 'layers.4'.")
        if point not in get_args(Point):
            raise StageError(f"split_at got the point {point!r} for {path!r}; use 'beginning' or 'end'.")
    return SplitAt(tuple(points.items()))


def _position(traced: Traced, path: str, point: Point) -> int:
    positions = [i for i, node in enumerate(traced.forward) if _inside(node.meta["path"], path)]
    if not positions:
        raise StageError(_nothing_text(traced, path))
    return positions[0] if point == "beginning" else positions[-1] + 1


def _inside(path: str | None, module: str) -> bool:
    """Whether the module at `path` is `module` or one in it; every module is in the root, whose path is empty."""
    return path is not None and (module == "" or path == module or path.startswith(f"{module}."))


def _nothing_text(traced: Traced, path: str) -> str:
    if not traced.modules:
        return (
            f"split_at names the module {path!r}, but the loss function calls no module; mark the ends of stages with "
            "fp.mark_stage_end(x), or use fp.stages.balanced(n)."
        )
    if any(_inside(called, path) for called in traced.modules):
        return (
            f"split_at names the module {path!r}, which was called but left no operations in the graph (an identity, "
            "or dropout that is off); cut at the module before or after it."
        )
    known = nearest(path, traced.modules) or [m for m in traced.modules if m]
    return (
        f"split_at names the module {path!r}, which is unknown or was never called; the nearest modules that were "
        f"called are {quoted(known)}; use one of them."
    )
