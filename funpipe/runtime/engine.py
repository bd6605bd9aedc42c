"""The engine behind the steps: traces, compiles once for each batch shape, runs, and moves leaves in and out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import optree
import torch
from torch import Tensor

from funpipe._errors import FunpipeTypeError, LossError, StateError, TraceError, TreeError
from funpipe._typing import TensorType, Tree
from funpipe.backends.sizes import Sizes
from funpipe.functional.objects import knowing
from funpipe.functional.pending import require_whole
from funpipe.functional.precision import Precision
from funpipe.functional.tree import check_same, named_leaves, place, unflatten_named
from funpipe.programs.layout import Layout
from funpipe.programs.program import Programs
from funpipe.runtime.collecting import no_collecting
from funpipe.runtime.current import on
from funpipe.runtime.dynamic import check_dynamic, other_sizes, those_that_work
from funpipe.runtime.follow import Follow, holders, operators
from funpipe.runtime.guarding import Guarded, require_same_leaves, unchanged
from funpipe.runtime.inputs import BatchInputs, one_microbatch, signature
from funpipe.runtime.key_of_state import initial_key, require_key, require_update_key
from funpipe.runtime.ladder import CompiledStep, LoweredStep, TracedStep
from funpipe.runtime.leaves_of_state import initial_values
from funpipe.runtime.matched import require_named
from funpipe.runtime.metrics import Metrics, Results, pack
from funpipe.runtime.scale_of_state import initial_scale
from funpipe.runtime.setup import Setup
from funpipe.runtime.shapes import keep, recall, tell
from funpipe.runtime.state import State
from funpipe.runtime.together import give_up, require_same_batches, require_same_key, telling, transport_of
from funpipe.runtime.transports import Distributed
from funpipe.schedules import Table
from funpipe.stages import Cutter
from funpipe.tracing import trace
from funpipe.tracing.trace import trainable

_KNOWN = 256
"""How many kinds of batches are known by their signature; each holds a few types."""


@dataclass(frozen=True, eq=False)
class Model:
    """The types and structures of the trees that a step was first given.

    Args:
        params, buffers: types by name.
        trained: the parameters that are trained.
        specs: the structures of both trees.
        batch: the batch of the first call.
        tree: both trees on the meta device, for tracing again.
        device: where the state lives.
        values: both trees as they were given, where tracing again needs values: a module is called and not traced.
    """

    params: dict[str, TensorType]
    buffers: dict[str, TensorType]
    trained: frozenset[str]
    specs: tuple[Any, Any]
    batch: BatchInputs
    tree: tuple[Tree, Tree]
    device: torch.device
    values: tuple[Tree, Tree] | None = None


@dataclass(eq=False)
class Engine:
    """Everything that changes while steps are made and run.

    Args:
        setup: the step's arguments.
        differentiate: False for evaluations.
        cutter, table, layout: fixed by what another graph was cut into, so that the leaves stay where they are.
        key: of the random numbers, or None.
        trains: whether dropout is on; None: unless it is an evaluation.
    """

    setup: Setup
    differentiate: bool = True
    cutter: Cutter | None = None
    table: Table | None = None
    layout: Layout | None = None
    model: Model | None = None
    transport: Distributed | None = None
    lowered: LoweredStep | None = None
    compiled: dict[Any, CompiledStep] = field(default_factory=dict)
    known: dict[Any, BatchInputs] = field(default_factory=dict)
    guarded: Guarded = field(default_factory=Guarded)
    compilations: int = 0
    key: Tensor | None = None
    trains: bool | None = None

    def __post_init__(self) -> None:
        if self.setup.mesh is not None and self.transport is None:
            self.transport = transport_of(self.setup.mesh)

    def trace(self, params: Tree, batch: Tree, buffers: Tree) -> TracedStep:
        """The first rung of the ladder."""
        setup = self.setup
        inputs = BatchInputs.of(batch, setup.num_microbatches, setup.batch_spec)
        return self._traced(params, batch, buffers, inputs, _device(setup, params))

    def _traced(
        self, params: Tree, batch: Tree, buffers: Tree, inputs: BatchInputs, device: torch.device
    ) -> TracedStep:
        setup = self.setup
        with on(device):
            traced = trace(
                setup.loss_fn,
                params,
                one_microbatch(batch, setup.num_microbatches, setup.batch_spec),
                buffers=buffers,
                differentiate=self.differentiate,
                device=device.type,
                precision=setup.precision,
                way=setup.trace,
                trains=self.trains,
            )
        rest = (self.cutter, self.table, self.layout, self.differentiate and self.key is not None)
        return TracedStep(setup, traced, inputs.dims, device, self.transport, *rest)

    def prepare(
        self, params: Tree, batch: Tree, buffers: Tree, device: torch.device | None = None
    ) -> tuple[Model, LoweredStep]:
        """Traces and lowers for the first time; what was compiled before is forgotten.

        Args:
            params, batch, buffers: as `init` takes them.
            device: where the state lives; None: where the parameters are.
        """
        with telling(self.transport):
            named, spec = named_leaves(params, what="params")
            held, held_spec = named_leaves({} if buffers is None else buffers, what="buffers")
            device = device or _device(self.setup, params)
            inputs = BatchInputs.of(batch, self.setup.num_microbatches, self.setup.batch_spec)
            check_dynamic(batch, self.setup)
            with no_collecting():
                lowered = self._traced(params, batch, buffers, inputs, device).lower()
            traced = lowered.origin.traced
            require_key(traced, self.key, not (self.differentiate or self.trains))
            require_update_key(self.setup.optimizer if self.differentiate else None, self.key)
            require_named(self.setup, named, inputs.leaves)
            guarded = Guarded(buffers=unchanged(held, traced))
            choice = guarded.start(inputs, traced.guards, self.setup.num_microbatches)
        require_same_batches(inputs, self.transport, choice.seen)
        require_same_key(self.key, self.transport)
        trained, specs = frozenset(trainable(named)), (spec, held_spec)
        self.model = Model(
            _kept_types(self.setup, named), _types(held), trained, specs, inputs, _shapes(params, buffers), device
        )
        if traced.attempts:
            self.model = replace(self.model, values=(params, buffers))
        self.lowered, self.guarded = lowered, guarded
        self.compiled.clear()
        self.known.clear()
        self.compilations = 0
        return self.model, lowered

    def init(self, params: Tree, batch: Tree, buffers: Tree, key: Tensor | None = None) -> State:
        """Prepares, and copies what this rank keeps."""
        self.key = key
        model, lowered = self.prepare(params, batch, buffers)
        return self._state(model, lowered, params, buffers)

    def state_for(self, params: Tree, batch: Tree, buffers: Tree, key: Tensor | None = None) -> State:
        """The state of trees like the first ones; prepares for the first."""
        if self.model is None or self.lowered is None:
            return self.init(params, batch, buffers, key)
        with telling(self.transport):
            require_known(self.model, params, buffers, self.setup.precision)
            require_key(self.lowered.origin.traced, key, evaluates=False)
        self.key = key
        return self._state(self.model, self.lowered, params, buffers)

    def _state(self, model: Model, lowered: LoweredStep, params: Tree, buffers: Tree) -> State:
        named = named_leaves(params, what="params")[0]
        held = named_leaves({} if buffers is None else buffers, what="buffers")[0]
        program = lowered.programs[self.setup.rank]
        values = initial_values(lowered.all, program, named, held, self.setup.optimizer, model.device)
        values |= initial_scale(program, self.setup.precision, model.device) | initial_key(self.key, model.device)
        return State(values, lowered.signature)

    def first(self) -> tuple[Model, LoweredStep]:
        """What `init` found."""
        if self.model is None or self.lowered is None:
            raise StateError("this step has no state yet: call step.init(params, batch) first.")
        return self.model, self.lowered

    def step_for(
        self, batch: Tree, check: Callable[[], object] = lambda: None, values: Mapping[str, Tensor] | None = None
    ) -> tuple[CompiledStep, BatchInputs]:
        """The compiled step for a batch's shapes, compiled at its first use.

        Args:
            batch: the batch.
            check: raises what else is wrong on this rank; an error here is raised on all ranks.
            values: of the state that it will run on, if there is one: buffers may be read in Python.
        """
        model, lowered = self.first()
        with telling(self.transport):
            check()
            inputs = self._inputs(batch, model)
            if values is not None:
                inputs.require_values()
            choice = self.guarded.choose(inputs, self.setup.num_microbatches, values)
        require_same_batches(inputs, self.transport, choice.seen)
        key = choice.key
        found = recall(self.compiled, key)
        if found is None:
            if key != self.guarded.first:
                lowered, key = self._again(batch, inputs, values)
            sizes = None if self.setup.dynamic is None else self._sizes(batch, values)
            found = keep(self.compiled, key, partial(lowered.compile, sizes), self.setup.max_shapes)
            self.compilations += 1
            if self.setup.rank == 0 and sizes is None:
                tell(self.compilations, self.setup.max_shapes, model.batch, inputs, key != inputs.key)
        return found, inputs

    def _sizes(self, batch: Tree, values: Mapping[str, Tensor] | None) -> Sizes:
        """The same step at other sizes, from which those parts of the compiled code that fit every size are found."""
        setup = self.setup

        def lowered_for(other: Tree) -> Programs:
            inputs = BatchInputs.of(other, setup.num_microbatches, setup.batch_spec)
            return self._lowered_again(other, inputs, values).all

        return Sizes(lambda: those_that_work(lowered_for, other_sizes(batch, setup)))

    def _again(self, batch: Tree, inputs: BatchInputs, values: Mapping[str, Tensor] | None) -> tuple[LoweredStep, Any]:
        """The programs for other sizes or other values that are read, and their key; all ranks come here together."""
        with telling(self.transport):
            lowered = self._lowered_again(batch, inputs, values)
            guards = lowered.origin.traced.guards
            choice = self.guarded.add(inputs, guards, self.setup.num_microbatches, values)
        require_same_batches(inputs, self.transport, choice.seen)  # replicas may have read what others have not
        return lowered, choice.key

    def _inputs(self, batch: Tree, model: Model) -> BatchInputs:
        """A checked batch; one like an earlier one is known by its signature."""
        leaves, key = signature(batch)
        if key not in self.known:
            if len(self.known) >= _KNOWN:
                self.known.clear()
            inputs = BatchInputs.of(batch, self.setup.num_microbatches, self.setup.batch_spec, like=model.batch)
            self.known[key] = inputs.with_leaves([leaf.detach().to("meta") for leaf in leaves])  # it outlives the batch
            return inputs
        return self.known[key].with_leaves(leaves)

    def follow(self) -> Follow:
        """How another graph of the model is cut, so that the leaves stay where they are."""
        model, lowered = self.first()
        held = holders(lowered.all.layout, lowered.stages, lowered.schedule, tuple(model.buffers))
        known = self.cutter.holders if isinstance(self.cutter, Follow) else held
        return Follow(known, len(lowered.stages), lowered.cuts, operators(lowered.origin.traced))

    def _lowered_again(self, batch: Tree, inputs: BatchInputs, values: Mapping[str, Tensor] | None) -> LoweredStep:
        """The programs for another batch: the same stages, and the leaves where the state has them."""
        model, lowered = self.first()
        fixed = replace(self, cutter=self.follow(), table=lowered.schedule, layout=lowered.all.layout)
        try:
            params, held = model.values or (model.tree[0], self.buffers_with_values(values))
            again = fixed._traced(params, batch, held, inputs, model.device)
            require_same_leaves(lowered.origin.traced, again.traced)
            return again.lower()
        except (TraceError, LossError) as error:
            changed = model.batch.difference_text(inputs)
            if not changed:
                raise
            raise type(error)(f"batch: {changed} as in the batch given to init, and then {error}") from error

    def buffers_with_values(self, values: Mapping[str, Tensor] | None = None) -> Tree:
        """The tree of buffers for tracing again: those that no step changes have values, others shapes alone."""
        model, _ = self.first()
        if model.tree[1] is None:
            return None
        shapes = named_leaves(model.tree[1], what="buffers")[0]
        return unflatten_named(model.specs[1], {**shapes, **self.guarded.known_buffers(values)})

    def run(self, state: State, compiled: CompiledStep, inputs: BatchInputs) -> tuple[dict[str, Tensor], Metrics]:
        """Runs a compiled step on a state's values; all values it leaves, and its results."""
        device = self.first()[0].device
        try:
            with on(device), knowing(compiled.lowered.all.objects):
                found = compiled.executable(compiled.feed(state.values, inputs.leaves, device))
                return found, self.metrics(compiled.results, found)
        except BaseException as error:
            give_up(self.transport, error)
            raise

    def metrics(self, results: Results, found: dict[str, Tensor]) -> Metrics:
        """The metrics of all ranks; every rank calls it alike.

        Args:
            results: which rank makes which.
            found: this rank's, by name, among other values.
        """
        local = {n: found[n] for n in results.owners if n in found}
        mesh = self.setup.mesh
        if mesh is None or mesh.shape.pp * mesh.shape.dp == 1 or self.transport is None:
            return Metrics(results, local)
        pp, dp = mesh.shape.pp, mesh.shape.dp
        makers = results.makers if dp == 1 else [d * pp + rank for d in range(dp) for rank in results.makers]
        gathering = self.transport.all_gather_start(pack(results, local, mesh.device), "world", makers)
        return Metrics(results, local, gathering, mesh.shape.pp)


def advance(engine: Engine, state: State, batch: Tree) -> tuple[State, Metrics]:
    """Consumes a state: runs a step and gives the state after it."""
    _, lowered = engine.first()
    # What can be wrong with the state or the batch is found before either is touched.
    compiled, inputs = engine.step_for(
        batch, lambda: require_state(state).require(lowered.signature), getattr(state, "values", None)
    )
    state.status = "running"
    try:
        found, metrics = engine.run(state, compiled, inputs)
    except BaseException:
        state.status = "unfinished"
        raise
    values = {n: found.get(n, value) for n, value in state.values.items()}
    if "skipped" in found:  # every backend counts every step: one that was skipped is taken back
        values["step"] = values["step"] - found["skipped"].to(values["step"])
    state.status, state.values = "consumed", {}
    return State(values, state.signature), metrics


def require_state(state: object) -> State:
    """Raises unless it is a state."""
    require_whole(state, "the state")
    if not isinstance(state, State):
        raise FunpipeTypeError(
            f"the state is of type {type(state).__name__}; pass what step.init, step.load or the step itself returned."
        )
    return state


def require_known(model: Model, params: Tree, buffers: Tree, precision: Precision | None = None) -> None:
    """Raises unless trees have the structure, shapes and dtypes of the first ones, and the same leaves are trained."""
    check_same(model.params, precision.kept_shapes(params) if precision else params, what="params")
    check_same(model.buffers, {} if buffers is None else buffers, what="buffers")
    named = named_leaves(params, what="params")[0]
    changed = model.trained.symmetric_difference(trainable(named))
    if changed:
        raise TreeError(_trained_text(next(n for n in named if n in changed), model))


def _trained_text(name: str, model: Model) -> str:
    before, now = ("trained", "frozen") if name in model.trained else ("frozen", "trained")
    return (
        f"params: {place(name)} was {before} in the first call and is {now} by the requires_grad of these: make "
        "another function for other trained leaves, or give the leaves the requires_grad that they had."
    )


def _kept_types(setup: Setup, named: dict[str, Tensor]) -> dict[str, TensorType]:
    """The types of parameters as the state has them."""
    return setup.precision.kept_types(_types(named)) if setup.precision else _types(named)


def _types(named: dict[str, Tensor]) -> dict[str, TensorType]:
    return {n: TensorType.of(t) for n, t in named.items()}


def _shapes(params: Tree, buffers: Tree) -> tuple[Tree, Tree]:
    def shape(leaf: Tensor) -> Tensor:
        return torch.empty_like(leaf, device="meta").requires_grad_(leaf.requires_grad)

    return optree.tree_map(shape, params), None if buffers is None else optree.tree_map(shape, buffers)


def _device(setup: Setup, params: Tree) -> torch.device:
    """Where the state lives: the mesh's device, or that of the parameters."""
    if setup.device is not None:
        return setup.device
    leaves = named_leaves(params, what="params")[0].values()
    return next((leaf.device for leaf in leaves if leaf.device.type != "meta"), torch.device("cpu"))
