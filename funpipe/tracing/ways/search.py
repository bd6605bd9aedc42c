"""Finds the way to trace a function: functionally; else with the modules that fail exported; else with them opaque.

    trace                                 as it is
      fails in the module m               run the function on real values, note how m is called
        export m, trace                   torch.export reads m: as it runs, then with its Python rewritten (strict)
          fails in m: m opaque, trace     one operator, which calls m
            fails in m: the module around m

Modules of m's class get what m gets. What fails on real values, too, is the user's mistake: no other way is tried.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import nn

from funpipe._errors import FunpipeError, TraceError
from funpipe.functional.objects import collecting
from funpipe.tracing.traced import Traced
from funpipe.tracing.ways.announced import Announced
from funpipe.tracing.ways.attempt import WAYS, Attempt, Way
from funpipe.tracing.ways.exported import Exported, export
from funpipe.tracing.ways.recorded import Call, recorded
from funpipe.tracing.ways.replacing import replacing
from funpipe.tracing.ways.stack import alike, around, modules_of, name_of, path_in
from funpipe.tracing.ways.watch import NotOpaque
from funpipe.tracing.where import user_line_of

_EXPORTS = {"export": False, "export, strict": True}
_STEPS: dict[Way, tuple[str, ...]] = {
    "auto": (*_EXPORTS, "modules"),
    "functional": (),
    "export": tuple(_EXPORTS),
    "modules": ("modules",),
}
_NO_VALUES = (
    "Other ways to trace run the function once, and this one has leaves without values: pass real parameters and a "
    "real batch."
)


def traced_by(way: Way, once: Callable[[], Traced], eager: Callable[[], object] | None) -> Traced:
    """Traces a function in the first way that works.

    Args:
        way: what may be tried where the functional trace fails.
        once: traces it functionally.
        eager: runs it on real values; None where there are none.

    Returns:
        The graph, with what was tried.

    Raises:
        TraceError: `way` is none, the function raises on real values, too, or nothing works.
    """
    if way not in WAYS:
        raise TraceError(f"trace is {way!r}; use one of {', '.join(map(repr, WAYS))}.")
    try:
        return once()
    except TraceError as error:
        running = _running(error)
        if not _STEPS[way] or not running:
            raise
        if eager is None:
            raise TraceError(f"{error} {_NO_VALUES}") from error.__cause__
        if not _runs(eager):
            raise
        return _Search(running[0], _STEPS[way], once, eager, error).traced(running)


def _running(error: TraceError) -> list[nn.Module]:
    """The modules that were running when tracing failed; none if it failed outside of all of them."""
    return modules_of(error.__cause__ or error)


def _runs(eager: Callable[[], object]) -> bool:
    """Whether the function runs on real values; what funpipe itself says against it is raised."""
    try:
        eager()
    except FunpipeError:
        raise
    except Exception:
        return False
    return True


@dataclass
class _Search:
    """The modules that are replaced, and by what.

    Args:
        root: the outermost module.
        steps: what is tried for a module, in order.
        once, eager: as for `traced_by`.
        error: why the functional trace failed.
    """

    root: nn.Module
    steps: tuple[str, ...]
    once: Callable[[], Traced]
    eager: Callable[[], object]
    error: TraceError
    chosen: dict[nn.Module, Announced | Exported] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    tried: dict[nn.Module, int] = field(default_factory=dict)

    def traced(self, running: list[nn.Module]) -> Traced:
        """Replaces module after module until the function can be traced."""
        self._note("functional", path_in(self.root, running[-1]), self.error)
        while True:
            module, step = self._next(running)
            group = alike(self.root, module)
            for other in group:
                self.tried[other] = self.tried.get(other, 0) + 1
            found = self._replaced(module, group, step)
            if isinstance(found, Traced):
                return found
            running = found

    def _next(self, running: list[nn.Module]) -> tuple[nn.Module, str]:
        """The innermost module for which something is left to be tried, and what."""
        for module in reversed(running):
            if self.tried.get(module, 0) < len(self.steps):
                return module, self.steps[self.tried.get(module, 0)]
        tried = "; ".join(a.as_text() for a in self.attempts[1:])
        raise TraceError(f"{self.error} Other ways did not work either: {tried}") from self.error.__cause__

    def _replaced(self, module: nn.Module, group: list[nn.Module], step: str) -> Traced | list[nn.Module]:
        """The graph with some modules replaced; else the modules that were running where that failed."""
        path = path_in(self.root, module)
        before = self.chosen
        try:
            self.chosen = self._without(module) | self._stand_ins(group, step)
            found = self._again()
        except Exception as error:
            running = self._failed_in(error) or around(self.root, module)
            if set(running).isdisjoint(group):  # what is left fails elsewhere
                self._note(step, path)
                return running
            self.chosen = before
            self._note(step, path, error)
            return running
        self._note(step, path)
        return self._reported(found)

    def _without(self, module: nn.Module) -> dict[nn.Module, Announced | Exported]:
        """What is replaced outside of a module."""
        inside = set(module.modules())
        return {m: stand_in for m, stand_in in self.chosen.items() if m not in inside}

    def _stand_ins(self, group: list[nn.Module], step: str) -> dict[nn.Module, Announced | Exported]:
        calls = recorded({m: name_of(self.root, m) for m in group}, self.eager)
        return {m: self._stand_in(m, calls[m], step) for m in group if calls[m]}

    def _stand_in(self, module: nn.Module, calls: list[Call], step: str) -> Announced | Exported:
        name = name_of(self.root, module)
        if step in _EXPORTS:
            path = path_in(self.root, module)
            return export(module, module.forward, path, name, calls, strict=_EXPORTS[step])
        problem = next((call.problem for call in calls if call.problem is not None), None)
        if problem is not None:
            raise problem
        return Announced(module, module.forward, name, calls)

    def _again(self) -> Traced:
        with replacing(self.chosen), collecting() as objects:
            found = self.once()
        return replace(found, objects=dict(objects))

    def _failed_in(self, error: Exception) -> list[nn.Module]:
        if isinstance(error, NotOpaque):
            return around(self.root, error.module)
        return _running(error) if isinstance(error, TraceError) else []

    def _note(self, way: str, path: str, error: Exception | None = None) -> None:
        cause = (error.__cause__ or error) if error is not None else None
        why = None if cause is None else f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        self.attempts.append(Attempt(way, path, why, None if cause is None else user_line_of(cause)))

    def _reported(self, found: Traced) -> Traced:
        opaque = tuple(path_in(self.root, m) for m, s in self.chosen.items() if isinstance(s, Announced))
        way = "modules" if opaque else "export"
        return replace(found, way=way, attempts=tuple(self.attempts), opaque=opaque)
