"""`Calls`: the calls of one compiled function; each finds, or makes, the step that fits it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from funpipe.interop.spmd.engine.arguments import Arguments
from funpipe.interop.spmd.engine.communication import ranks
from funpipe.interop.spmd.engine.compiled import Compiled
from funpipe.interop.spmd.engine.finding import Finder, key_of, with_gradients, with_present_gradients
from funpipe.interop.spmd.engine.leaves import Leaf
from funpipe.interop.spmd.engine.making import Options, compiled, traced
from funpipe.interop.spmd.engine.optimizers import rates
from funpipe.interop.spmd.engine.watch import Watch
from funpipe.interop.spmd.errors import SpmdRuntimeError


@dataclass(frozen=True, eq=False)
class _Open:
    """A step with open work.

    Args:
        step: that was run last.
        leaves: its state.
        watch: completes the work if somebody looks at the state.
    """

    step: Compiled
    leaves: Sequence[Leaf]
    watch: Watch


@dataclass(eq=False)
class Calls:
    """The calls of one compiled function.

    Args:
        options: what `compile` was given.
    """

    options: Options
    current: Compiled | None = None
    _known: dict[Any, Compiled] = field(default_factory=dict)
    _any_gradients: dict[Any, Compiled] = field(default_factory=dict)
    _open: _Open | None = None

    def __post_init__(self) -> None:
        self._finder = Finder(self.options.overrides)

    def run(self, args: Sequence[Any], kwargs: dict[str, Any], last: bool) -> Any:
        """One call.

        Args:
            args, kwargs: of the user's function.
            last: whether no work is left open.

        Returns:
            What the user's function returns.
        """
        call = Arguments.of(args, kwargs)
        if self._open and not _of_same_objects(self._open.step, call):
            self.flush()
        leaves = self._leaves(call)
        step = self._found(call, leaves)
        if step is None or (self._open and step is not self._open.step):
            self.flush()
            self.options.mode.prepare(call.model, call.optimizer)
            leaves = self._leaves(call)
            step = step or self._made(call, leaves)
        self.current = step
        returned = self._stepped(step, call, leaves)
        if last:
            self.flush()
        return returned

    def flush(self) -> None:
        """Does the work that the last step left open, if it left any."""
        if self._open:
            step, leaves, watch = self._open.step, self._open.leaves, self._open.watch
            watch.end()
            self._open = None
            step.flush(leaves)

    def _leaves(self, call: Arguments) -> Sequence[Leaf]:
        """While work is open nobody has looked at the state since, so that it is what it was; but for gradients."""
        return with_present_gradients(self._open.leaves) if self._open else self._finder.leaves(call)

    def _found(self, call: Arguments, leaves: Sequence[Leaf]) -> Compiled | None:
        key = key_of(call, leaves)
        return self._any_gradients.get(key) or self._known.get((key, with_gradients(leaves)))

    def _made(self, call: Arguments, leaves: Sequence[Leaf]) -> Compiled:
        key, had = key_of(call, leaves), with_gradients(leaves)
        with self._finder.in_place(call.model):
            made = traced(self.options, call, leaves)
        before = self._known.get((key, ()))
        step = before if had and made.ignores_gradients and before else compiled(self.options, made)
        self._known[key, had] = step
        if had and made.ignores_gradients:
            self._any_gradients[key] = step
        return step

    def _stepped(self, step: Compiled, call: Arguments, leaves: Sequence[Leaf]) -> Any:
        if self._open:
            self._open.watch.end()
        try:
            return step.run(call, leaves, rates(call.optimizer))
        finally:
            self._open = _Open(step, leaves, self._watch(step, leaves)) if step.pending else None

    def _watch(self, step: Compiled, leaves: Sequence[Leaf]) -> Watch:
        late = [leaf.owner for leaf in leaves if leaf.name in step.stale]
        return Watch([o for o in late if isinstance(o, nn.Module)], step.optimizer, self._looked_at)

    def _looked_at(self) -> None:
        """Somebody looks at the state while work is open."""
        if ranks()[1] > 1:
            raise SpmdRuntimeError(
                "the state was read while work of the last step is open: call the step's flush() on all ranks before, "
                "or pass last_train_step=True to the step before."
            )
        self.flush()


def _of_same_objects(step: Compiled, call: Arguments) -> bool:
    return step.model is call.model and step.optimizer is call.optimizer
