"""The averages of the parameters that an optimizer keeps, in the place of the parameters."""

from collections.abc import Mapping

from torch import Tensor

from funpipe._errors import StateError
from funpipe.optim.ema import SLOT
from funpipe.programs.program import Programs
from funpipe.programs.slot_values import of_leaves, split_name
from funpipe.runtime.engine import Engine
from funpipe.runtime.exchange import gather_named
from funpipe.runtime.leaves_of_state import Named, leaves, slots
from funpipe.runtime.state import State


def gather_averages(engine: Engine, values: Named) -> Named:
    """The averages of all parameters by name, copies, on every rank; a leaf that is not updated is itself.

    Args:
        engine: of a train step that has a state.
        values: this rank's.

    Raises:
        StateError: the optimizer keeps none.
    """
    model, lowered = engine.first()
    _require(lowered.all)
    return gather_named(engine, leaves(lowered.all.layout, values) | _averages(engine, values), model.params)


def with_averages(engine: Engine, state: State) -> State:
    """A state for evaluations alone, whose parameters are the averages; every rank calls it alike.

    Args:
        engine: of the train step.
        state: not consumed; the values that are no averages are its own.

    Raises:
        StateError: the optimizer keeps none.
    """
    layout = engine.first()[1].all.layout
    _require(engine.first()[1].all)
    mine, values = _averages(engine, state.values), dict(state.values)
    for bucket in layout.buckets:
        if f"bucket.{bucket.name}" in values and all(slot.leaf in mine for slot in bucket.slots):
            values[f"bucket.{bucket.name}"] = of_leaves(mine, bucket)
    return State(values | _copies(engine, mine), state.signature)


def _averages(engine: Engine, values: Named) -> Named:
    """This rank's, by leaf."""
    found = slots(engine.first()[1].all.layout, values)
    return {leaf: x for path, named in found.items() if path.split(".")[-1] == SLOT for leaf, x in named.items()}


def _copies(engine: Engine, mine: Mapping[str, Tensor]) -> Named:
    """The averages of this rank's copies of tied leaves, which their owners have."""
    model, lowered = engine.first()
    layout = lowered.all.layout
    tied = {leaf: model.params[leaf] for leaf in layout.loose if layout.home(leaf) is not None}
    if not tied:
        return {}
    held = lowered.programs[engine.setup.rank].inputs
    return {f"leaf.{n}": x for n, x in gather_named(engine, mine, tied).items() if f"leaf.{n}" in held}


def _require(programs: Programs) -> None:
    names = (split_name(n)[0].partition(":")[0] for n in programs.types if n.startswith("slot."))
    if not any(path.split(".")[-1] == SLOT for path in names):
        raise StateError(
            "the optimizer keeps no averages of the parameters: make the step with fp.optim.ema(optimizer, "
            "decay=0.999)."
        )
