"""One real step, timed: the same functions on the same state, with a clock between the instructions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch.distributed as dist

from funpipe._errors import BatchError
from funpipe._typing import Tree
from funpipe.backends.timed import Timed, timed
from funpipe.functional.fixed import FixedType
from funpipe.functional.tree import place
from funpipe.runtime.engine import Engine, Model, advance, require_state
from funpipe.runtime.guarding import Guarded
from funpipe.runtime.inputs import BatchInputs
from funpipe.runtime.ladder import CompiledStep
from funpipe.runtime.metrics import Metrics
from funpipe.runtime.profiling import clocks
from funpipe.runtime.profiling.event import Event
from funpipe.runtime.profiling.events import Events
from funpipe.runtime.profiling.profile import Profile
from funpipe.runtime.state import State
from funpipe.runtime.together import breaking, telling
from funpipe.runtime.transports import Distributed


def measure(engine: Engine, state: State, batch: Tree) -> tuple[State, Metrics, Profile]:
    """Runs one step with a clock; all ranks call it alike.

    Args:
        engine: whose compiled step is run, compiled if need be.
        state: consumed.
        batch: this replica's.

    Returns:
        What the step returns, and the profile of all ranks.
    """
    model, lowered = engine.first()
    compiled, _ = engine.step_for(
        batch, lambda: require_state(state).require(lowered.signature), getattr(state, "values", None)
    )
    clock = clocks.clock_of(model.device)
    watched = timed(compiled.executable, clock)
    timing = compiled.with_executable(watched.executable)
    watching = replace(engine, compiled={k: timing if c is compiled else c for k, c in engine.compiled.items()})
    rounds = clocks.told(engine.transport)  # also brings the ranks together, so that none waits for another's compile
    begin = clock()
    state, metrics = advance(watching, state, batch)
    times = (begin, *watched.times, clock())
    return state, metrics, _profile(engine, compiled, watched, times, rounds)


def _profile(
    engine: Engine, compiled: CompiledStep, watched: Timed, times: Sequence[int], rounds: list[list[int]]
) -> Profile:
    mesh, everything = engine.setup.shape, compiled.lowered.all
    rank = 0 if engine.transport is None else dist.get_rank()
    offset = clocks.offsets(rounds)[rank]
    mine = (rank, watched.parts, [t + offset for t in times])
    told = _gathered(mine, engine.transport)
    origin = min(times[0] for _, _, times in told)
    events: list[Event] = []
    for rank, parts, begun in told:
        writer = Events(everything, everything.programs[rank % mesh.pp], rank)
        events += writer.write(parts, [(t - origin) / 1e9 for t in begun])
    return Profile(tuple(events), mesh)


_Told = tuple[int, Sequence, Sequence[int]]


def _gathered(mine: _Told, transport: Distributed | None) -> list[_Told]:
    """What every rank has measured, in the order of the ranks."""
    if transport is None or transport.alone:
        return [mine]
    found: list[_Told | None] = [None] * dist.get_world_size()
    with breaking(transport):
        dist.all_gather_object(found, mine)
    return cast(list[_Told], found)


def engine_of(compiled: CompiledStep, batch: Tree) -> Engine:
    """An engine that knows one compiled step alone.

    Raises:
        BatchError: the batch is not of the sizes that the step was compiled for.
    """
    origin = compiled.lowered.origin
    transport = cast("Distributed | None", origin.transport)
    with telling(transport):
        inputs = BatchInputs.of(batch, origin.setup.num_microbatches, origin.setup.batch_spec)
        _require_same(inputs, compiled)
        guarded = _guarded(inputs, compiled)
    model = Model({}, {}, frozenset(), (None, None), inputs, (None, None), origin.device)
    return Engine(
        origin.setup,
        model=model,
        transport=transport,
        lowered=compiled.lowered,
        compiled={guarded.first: compiled},
        guarded=guarded,
    )


def _guarded(inputs: BatchInputs, compiled: CompiledStep) -> Guarded:
    """The one trace, which must hold for the batch."""
    origin = compiled.lowered.origin
    guarded = Guarded()
    first = guarded.start(inputs, origin.traced.guards, origin.setup.num_microbatches)
    for seen, guard in zip(first.seen, origin.traced.guards, strict=False):
        if seen.value != repr(guard.value):
            raise BatchError(
                f"batch: the loss function reads {seen.value} at {seen.source}, but the step was compiled for "
                f"{guard.value!r}: use step.profile(state, batch), which compiles for others."
            )
    return guarded


def _require_same(inputs: BatchInputs, compiled: CompiledStep) -> None:
    types, values = compiled.lowered.all.types, compiled.lowered.origin.traced.fixed
    for name, kind in inputs.key:
        if isinstance(kind, FixedType):
            if values[name] != kind:
                raise BatchError(
                    f"batch: {place(name)} is {kind}, but the step was compiled for {values[name]}: pass that value, "
                    "or use step.profile(state, batch), which compiles for others."
                )
            continue
        wanted = types.get(f"batch.{name}")
        if wanted is not None and (wanted.shape, wanted.dtype) != (kind.shape, kind.dtype):
            raise BatchError(
                f"batch: {place(name)} is {kind}, but the step was compiled for {wanted}: pass a batch of that size, "
                "or use step.profile(state, batch), which compiles for others."
            )
