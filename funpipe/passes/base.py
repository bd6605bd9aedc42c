"""`Pass`: a function from a step to a step that computes the same, as a value with a name and its place in an order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from funpipe._errors import PassError
from funpipe.graphs import Graph


@dataclass(frozen=True)
class Pass:
    """A rewriting of a graph, or of the programs of all ranks.

    There is no registry: what was applied to a value is written in the value (`applied`), so the same pass may run in
    any number of compilations, and two passes may be called alike in two of them.

    Args:
        name: how it is called, in `requires`, `after` and errors.
        fn: from a `Graph` to a new one, or from `Programs` to new ones; pure.
        requires: names of passes that must have been applied before.
        after: names of passes that, where they are applied too, come before this one.
        over: what it takes: `Graph` or `Programs`.
        repeats: whether it may be applied twice to one value.
        reorders: whether it may change the order of collectives that it keeps.
        last: whether no pass may come behind it.

    Example:
        >>> import torch
        >>> from funpipe.graphs import eliminate_dead
        >>> print(Pass("clean", eliminate_dead, after=("bucket",)))
        clean
    """

    name: str
    fn: Callable[[Any], Any]
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    over: type = Graph
    repeats: bool = False
    reorders: bool = False
    last: bool = False

    def __post_init__(self) -> None:
        for what in ("requires", "after"):
            names = getattr(self, what)
            if isinstance(names, str):
                raise PassError(f"{what}={names!r} of the pass {self.name!r} is a text: pass a tuple, ({names!r},).")
        if not callable(self.fn):
            raise PassError(f"fn={self.fn!r} of the pass {self.name!r} cannot be called: pass a function of graphs.")

    def __call__(self, value: Any) -> Any:
        """Applies it, as a composition of this pass alone does."""
        from funpipe.passes.compose import compose

        return compose(self)(value)

    def __str__(self) -> str:
        return self.name

    def require_kind(self, value: Any) -> None:
        """Raises unless the pass takes values of this kind."""
        if not isinstance(value, self.over):
            other = "fp.trace_step or a train step's as_graph()" if self.over is Graph else "fp.programs.lower"
            raise PassError(
                f"the pass {self.name!r} takes a {self.over.__name__}, and was given a {type(value).__name__}: pass "
                f"what {other} gives."
            )


def require_order(applied: tuple[Pass, ...], passes: tuple[Pass, ...]) -> None:
    """Raises unless passes may follow what was applied, each in its turn.

    Args:
        applied: the passes that were applied before.
        passes: those to come, in order.

    Raises:
        PassError: one is there twice, one lacks a prerequisite, or one that must come before it comes behind.
    """
    done = list(applied)
    for each in passes:
        names = [other.name for other in done]
        if each.name in names and not each.repeats:
            raise PassError(f"the pass {each.name!r} cannot be applied twice: leave the second one out.")
        missing = [name for name in each.requires if name not in names]
        if missing:
            raise PassError(
                f"{missing} are the prerequisites of {each.name!r}, and are not applied before it (applied: {names}): "
                "put them in front of it."
            )
        for at, earlier in enumerate(done):
            _require_behind(each, earlier, names[:at])
        done.append(each)


def _require_behind(each: Pass, earlier: Pass, before: Sequence[str]) -> None:
    """Raises if a pass comes behind one that must come after it, and did not come before that one, too."""
    if earlier.last:
        raise PassError(f"{earlier.name!r} must be the last pass, and {each.name!r} comes behind it: put it in front.")
    if each.name in earlier.after and each.name != earlier.name and each.name not in before:
        raise PassError(f"{earlier.name!r} must be applied after {each.name!r}: put {each.name!r} in front of it.")
