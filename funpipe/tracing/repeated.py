"""Whether a function does the same each time it is called: one graph stands for the microbatches of all steps.

A counter on a module, a list that grows, a hidden state that is kept for the next call: Python does for each microbatch
what a graph traced once does for the first alone. So the forward runs twice more on stand-ins, for a fraction of the
cost of the trace, and what the two runs call is compared operator by operator. Should they differ because the second
finds what the first has kept for it (a table that is computed once), a third is compared with the second.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from funpipe import _compat
from funpipe._errors import TraceError
from funpipe.tracing.called import Called, difference_text
from funpipe.tracing.where import user_line, user_line_of

_READS = frozenset(
    getattr(torch.ops.aten, name).default for name in ("_local_scalar_dense", "equal", "item", "is_nonzero")
)
"""Operators that give Python values; the last two are seen where no autograd is below."""

Table = Mapping[Any, Callable[..., Any]]


def check_repeated(
    call: Callable[[], Any],
    leaves: Sequence[Tensor],
    table: Table,
    answers: Sequence[Any],
    during: Callable[[], AbstractContextManager[Any]],
    what: str,
) -> None:
    """Raises unless a function does the same when it is called again.

    Args:
        call: runs it on stand-ins.
        leaves: the stand-ins.
        table: operators, and what is called in their place.
        answers: what the function read in Python when it was traced, in order.
        during: what is open around each call, such as the mode of the stand-ins.
        what: the function is called.

    Raises:
        TraceError: it does not; what differs and the user's line are named.
        CalledAgainError: it raised.
    """
    run, differences = None, 0
    while differences < 2:
        before, run = run, Run(table, answers, leaves, run)
        run.run(call, during, what)
        if before is not None and run.difference is None:
            return
        differences += before is not None
        if run.carries:
            break
    raise TraceError(_text(what, run.difference if run else None))


class CalledAgainError(TraceError):
    """A function that cannot be called twice."""


class Run:
    """One run: the operators that it calls, with what they are given.

    Args:
        table, answers, leaves: as for `check_repeated`.
        before: the run that it is compared with, None for the first.
    """

    def __init__(self, table: Table, answers: Sequence[Any], leaves: Sequence[Tensor], before: "Run | None") -> None:
        self.table, self.answers, self.before = table, iter(answers), before
        self.called = Called(leaves)
        self.difference: str | None = None
        self.carries = False
        self._mode = _compat.seeing_operators(self._handle)

    def run(self, call: Callable[[], Any], during: Callable[[], AbstractContextManager[Any]], what: str) -> None:
        """Calls the function."""
        try:
            with during(), self._mode:
                results = call()
                self._compare("return", (results,), {})
        except _Ended:
            return
        except Exception as error:
            line = user_line_of(error) or "an unknown line"
            raise CalledAgainError(
                f"{what} raised {type(error).__name__} when it was called again, at {line}: {error}. It is called for "
                "every microbatch, so it must not depend on how often: correct that line."
            ) from error
        if self.before is not None and len(self.called.log) < len(self.before.called.log):
            self._differ(f"{self.before.called.log[len(self.called.log)][0]} is called once, and not the next time")

    def _handle(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Notes an operator and calls it."""
        if func in self.table:
            with self._mode:
                found = self.table[func](*args, **kwargs)
            if found is not NotImplemented:
                return found
        if func.namespace == "prim":  # asks a stand-in for its device, and computes nothing
            return func(*args, **kwargs)
        self._compare(func, args, kwargs)
        if func in _READS and any(map(_compat.is_fake, args)):
            return next(self.answers, None)
        found = func(*args, **kwargs)
        self.called.returns(found, (args, tuple(kwargs.values())))
        return found

    def _compare(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entry = self.called.add(func, args, kwargs)
        if self.before is None or self.difference is not None:
            return
        at, earlier = len(self.called.log) - 1, self.before.called.log
        if any(self.before.called.varies(t) for t in self.called.unknown):
            self.carries = True
            self._differ("a tensor that one call has computed from what it was given is used by the next one")
            raise _Ended
        if at >= len(earlier) or entry != earlier[at]:
            self._differ(difference_text(earlier[at] if at < len(earlier) else ("nothing more",), entry))

    def _differ(self, text: str) -> None:
        self.difference = self.difference or f"{text}, at {user_line() or 'its end'}"


class _Ended(Exception):
    """A run need not go on."""


def _text(what: str, difference: str | None) -> str:
    return (
        f"{what} does something else each time it is called: {difference}. One graph stands for all microbatches and "
        "steps, so what Python does in the first call would be done in all: pass the number in the batch as a tensor "
        "(that of a microbatch: fp.microbatch.numbers(rows, num_microbatches)), and keep nothing between calls."
    )
