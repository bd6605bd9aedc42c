"""Passes in order: checked before anything runs, verified after each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from funpipe._errors import PassError
from funpipe.graphs import Graph, diff, eliminate_dead
from funpipe.graphs.step import Step
from funpipe.passes.base import Pass, require_order
from funpipe.passes.rotation.callables import Rotated
from funpipe.passes.rotation.graphs import PARTS, RotatedGraphs
from funpipe.passes.verify import verify
from funpipe.programs import Programs
from funpipe.programs.verify import check as check_programs


@dataclass(frozen=True)
class Pipeline:
    """Passes to be applied one after the other; made by `compose`.

    Args:
        passes: in order.
        dump: a folder for the text of what each pass made, or None.
    """

    passes: tuple[Pass, ...]
    dump: Path | None = None

    def __call__(self, value: Any) -> Any:
        """Applies the passes.

        Args:
            value: a `Graph`, `Programs`, or what holds graphs: a `Step`, a `Rotated` step or its `RotatedGraphs`.

        Returns:
            The same kind of value; what was applied is noted in it.

        Raises:
            PassError: the passes do not fit the value, or one changed what it must keep.
        """
        if isinstance(value, Step):
            return replace(value, graph=self(value.graph))
        if isinstance(value, Rotated | RotatedGraphs):
            parts = iter(PARTS)
            return value.map(lambda graph: self._into(next(parts))(graph))
        if not isinstance(value, Graph | Programs):
            raise PassError(
                f"passes take a Step, a Graph or Programs, and were given a {type(value).__name__}: pass what "
                "fp.trace_step, fp.rotate or fp.programs.lower gives."
            )
        require_order(value.applied, self.passes)
        self._dump(0, "start", value.as_text)
        for number, each in enumerate(self.passes, 1):
            value = self._applied(number, each, value)
        return value

    def _into(self, folder: str) -> "Pipeline":
        """The same passes, whose texts go to a folder below."""
        return self if self.dump is None else replace(self, dump=self.dump / folder)

    def _applied(self, number: int, each: Pass, before: Any) -> Any:
        each.require_kind(before)
        made = each.fn(before)
        if type(made) is not type(before):
            raise PassError(
                f"the pass {each.name!r} gave a {type(made).__name__} for a {type(before).__name__}: let it return a "
                "new value of the same kind."
            )
        after = replace(made, applied=(*before.applied, each))
        self._dump(number, each.name, after.as_text)
        if isinstance(after, Graph):
            verify(before, after, each)
            self._dump(number, f"{each.name}.diff", partial(diff, before, after))
        else:
            check_programs(after)
        return after

    def _dump(self, number: int, name: str, text: Callable[[], str]) -> None:
        if self.dump is not None:
            self.dump.mkdir(parents=True, exist_ok=True)
            (self.dump / f"{number:02}_{name}.txt").write_text(text() + "\n")

    def __str__(self) -> str:
        return " · ".join(map(str, self.passes))


def compose(*passes: Pass, dump: str | Path | None = None) -> Pipeline:
    """Puts passes in order; whether they may stand in it is checked here, before anything runs.

    Args:
        *passes: in the order in which they are applied.
        dump: a folder, made if it is not there: for each pass a file with what it made, and one with what it changed.
            The three graphs of a rotated step have a folder each in it. Where ranks have different graphs, or folders
            of their own are wanted, pass another one on each rank.

    Returns:
        A function from a `Step`, `Rotated`, `Graph` or `Programs` to a new one. After each pass the value is verified.

    Raises:
        PassError: a pass is there twice, or behind one that must come after it. Prerequisites that are not in front of
            a pass may have been applied to the value before: they are checked when there is one.

    Example:
        >>> from funpipe.graphs import eliminate_dead
        >>> first, second = Pass("first", eliminate_dead), Pass("second", eliminate_dead, after=("first",))
        >>> print(compose(first, second))
        first · second
        >>> compose(second, first)
        Traceback (most recent call last):
        funpipe._errors.PassError: 'second' must be applied after 'first': put 'first' in front of it.
    """
    for each in passes:
        if not isinstance(each, Pass):
            raise PassError(_no_pass(each))
    own = {each.name for each in passes}
    outside = dict.fromkeys(name for each in passes for name in each.requires if name not in own)
    require_order(tuple(Pass(name, eliminate_dead) for name in outside), passes)
    return Pipeline(passes, None if dump is None else Path(dump))


def _no_pass(value: Any) -> str:
    """Why something cannot be composed, and what to do about it."""
    if isinstance(value, list | tuple | Pipeline):
        what = "pipeline.passes" if isinstance(value, Pipeline) else "passes"
        return f"a {type(value).__name__} is no pass: pass them one by one, as in compose(*{what})."
    name = getattr(value, "__name__", type(value).__name__)
    return (
        f"{name} is no pass: wrap a function of graphs, as in Pass({name!r}, {name}); call one that makes a pass, as "
        "in passes.bucket()."
    )
