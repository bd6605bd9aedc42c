"""`Calls`: what was learned from calls, so that one like an earlier one costs little."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from funpipe.interop.pipelining.engine.ambient import ambient
from funpipe.interop.pipelining.engine.call import Call
from funpipe.interop.pipelining.engine.given import given
from funpipe.interop.pipelining.engine.hooks import require_none
from funpipe.interop.pipelining.engine.inputs import Own, own
from funpipe.interop.pipelining.engine.joining import Joined
from funpipe.interop.pipelining.engine.options import Options
from funpipe.interop.pipelining.engine.plain import require_plain
from funpipe.interop.pipelining.engine.recipe import Recipe, leaves_of, recipe
from funpipe.interop.pipelining.engine.running import Batch, batch_of

Owns = dict[int, Own]


class Mode(NamedTuple):
    """What a step is to do.

    Attributes:
        training: compute gradients.
        outputs: return what the last stage returns.
    """

    training: bool
    outputs: bool


@dataclass(frozen=True, eq=False)
class Seen:
    """A call, looked at.

    Args:
        number: differs where another program is needed.
        batch: gives the program's inputs.
        owns: what this rank gives to each of its stages, in full.
        wants_gradients: whether an argument requires a gradient.
    """

    number: int
    batch: Batch
    owns: Callable[[], Owns]
    wants_gradients: bool


@dataclass(eq=False)
class Calls:
    """The calls of one rank.

    Args:
        options: of the schedule.
        num_stages: of the pipeline.
    """

    options: Options
    num_stages: int
    recipes: dict[Any, tuple[int, Recipe]] = field(default_factory=dict)
    numbers: dict[Any, int] = field(default_factory=dict)

    def see(self, call: Call, joined: Joined, mode: Mode) -> Seen:
        """Looks at a call.

        Args:
            call: this rank's arguments.
            joined: this rank.
            mode: what the step is to do.

        Raises:
            FunpipeError: an argument is missing, or does not split.
        """
        leaves, key = leaves_of(call)
        if mode.training and self.options.optimizer is not None:
            require_none(joined.held.tensors)
        around = (mode, joined.held.mode, ambient(joined.device))
        key = (around, key)
        if key in self.recipes:
            number, known = self.recipes[key]
            return Seen(number, lambda name: known[name].of(leaves), lambda: self._owns(call, joined), False)
        owns = self._owns(call, joined)
        number = self.numbers.setdefault((around, *[(i, one.key) for i, one in owns.items()]), len(self.numbers))
        made = recipe(leaves, owns)
        if made is not None:
            self.recipes[key] = number, made
        wants = any(t.requires_grad for one in owns.values() for tensors in one.tensors for t in tensors.values())
        return Seen(number, batch_of(owns), lambda: owns, wants)

    def _owns(self, call: Call, joined: Joined) -> Owns:
        arguments = given(call, self.options)
        require_plain(joined.held.modules, (arguments.args, arguments.kwargs, arguments.targets))
        last = self.num_stages - 1
        return {
            i: own(i, i == last, arguments, joined.wirings[i], () if i else joined.later) for i in joined.held.modules
        }
