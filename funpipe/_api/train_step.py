"""`train_step`: a whole training step of a pure loss function, over several devices."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from funpipe._errors import FunpipeTypeError
from funpipe._typing import MeshShape, Tree
from funpipe.backends.compiled import CudaGraph
from funpipe.functional.precision import Precision, resolve_precision
from funpipe.functional.transformed import require_plain
from funpipe.functional.tree import unflatten_named
from funpipe.graphs.step import Step
from funpipe.optim import Optimizer
from funpipe.passes import Pass
from funpipe.runtime.as_graph import as_graph, metrics_of, state_of, values_of
from funpipe.runtime.averages import gather_averages
from funpipe.runtime.engine import Engine, advance, require_state
from funpipe.runtime.exchange import gather_buffers, gather_params, loaded, state_dict
from funpipe.runtime.gather_slots import gather_slots
from funpipe.runtime.ladder import LoweredStep, TracedStep
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.mesh import mesh as make_mesh
from funpipe.runtime.metrics import Metrics
from funpipe.runtime.profiling import Profile
from funpipe.runtime.profiling.measure import measure
from funpipe.runtime.setup import Numerics, Setup
from funpipe.runtime.state import State
from funpipe.schedules import Schedule, Table
from funpipe.stages import Cutter, Remat
from funpipe.tracing.ways import Way


class TrainStep:
    """A training step; made by `train_step`.

    Example:
        >>> import torch, funpipe as fp
        >>> step = fp.train_step(lambda p, x: (x @ p["w"]).square().mean(), fp.optim.sgd(0.1), backend="interpret")
        >>> x = torch.ones(4, 3)
        >>> state = step.init({"w": torch.ones(3, 2)}, x)
        >>> state, metrics = step(state, x)
        >>> metrics["loss"]
        tensor(9.)
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._engine = Engine(setup)

    def init(self, params: Tree, batch: Tree, *, buffers: Tree = None, key: int | Tensor | None = None) -> State:
        """Traces the loss function and makes the first state.

        Args:
            params: a pytree of tensors; copied. If any of them requires a gradient, those that do not are frozen.
            batch: a batch as every step will get; only structure, shapes and dtypes are read, and the values that the
                loss function itself reads in Python.
            buffers: a pytree of tensors, if the loss function takes them; copied.
            key: of the random numbers, a seed or what `fp.random.key` returned; None: that of `train_step`.

        Returns:
            The state of this rank: its own stages' leaves.

        Raises:
            TraceError, LossError, StageError, ScheduleError, MeshError, BatchError, TreeError: what does not fit.
            FunpipeTypeError: it is called inside of a transform of `torch.func`, as is calling the step.
        """
        require_plain((params, batch, buffers), "its arguments", "step.init")
        return self._engine.init(params, batch, buffers, self.setup.key_of(key))

    def __call__(self, state: State, batch: Tree) -> tuple[State, Metrics]:
        """Runs one step: every microbatch's forward and backward, communication, and the update.

        Args:
            state: consumed; use the one that is returned.
            batch: this replica's batch, the same on all its pipeline ranks. Other sizes than before compile again.

        Returns:
            The state after the update, and the metrics: `"loss"`, the mean over the global batch before the update,
            and the auxiliary values.

        Raises:
            StateError: the state is of another step, was consumed, or its step did not finish.
            BatchError, TreeError: the batch does not divide, or a leaf has another dtype or number of dimensions.
        """
        require_plain(batch, "its arguments", "a training step")
        return advance(self._engine, state, batch)

    def profile(self, state: State, batch: Tree) -> tuple[State, Metrics, Profile]:
        """Runs one real step and times each of its instructions; every rank calls it alike.

        Args:
            state: consumed, as by a step.
            batch: as for a step; compiled for its sizes first, if need be.

        Returns:
            The state and metrics that the step returns, to the bit, and the profile: the times of all ranks, on every
            rank. `print(profile.as_text())` shows where the time goes, `profile.save("trace.json")` writes a file for
            https://ui.perfetto.dev.

        Raises:
            FunpipeError: `numerics="fast"` makes one function of the step, whose parts cannot be timed.
            StateError, BatchError, TreeError: as for a step.
        """
        return measure(self._engine, state, batch)

    def trace(self, params: Tree, batch: Tree, *, buffers: Tree = None) -> TracedStep:
        """The first rung of the ladder `trace` → `lower` → `compile`, for a look or ahead of time.

        Args:
            params, batch, buffers: as `init` takes them; they may be on the meta device.

        Returns:
            The traced step; `as_text()` shows the graph, `lower()` cuts and schedules it.
        """
        return self._engine.trace(params, batch, buffers)

    def compile(self, batch: Tree) -> None:
        """Compiles the step for a batch's shapes now rather than at the first call.

        Args:
            batch: only shapes and dtypes are read.
        """
        self._engine.step_for(batch)

    def as_graph(self, updates: Literal["node", "expanded"] = "node") -> Step:
        """This rank's step as a graph, which passes over graphs, `rotate` and `compile_step` take; after `init`.

        Args:
            updates: `"node"`: the update of a bucket is one operator; `"expanded"`: those that the optimizer runs.

        Returns:
            The step `(values, batch) -> (values, aux)`: `values` is the dict that `values_of` gives, `aux` has what
            this rank's stages return of this replica; `metrics_of` combines it.

        Example:
            >>> import torch, funpipe as fp
            >>> step = fp.train_step(lambda p, x: (x @ p["w"]).square().mean(), fp.optim.sgd(0.1), backend="interpret")
            >>> x = torch.ones(4, 3)
            >>> state = step.init({"w": torch.ones(3, 2)}, x)
            >>> compiled = fp.compile_step(step.as_graph(), backend="interpret")
            >>> values, aux = compiled(step.values_of(state), x)
            >>> step.metrics_of(aux)["loss"], step.state_of(values).step
            (tensor(9.), 1)
        """
        return as_graph(self._engine, updates)

    def values_of(self, state: State) -> dict[str, Tensor]:
        """What a state holds on this rank, by the names that programs and graphs use.

        Args:
            state: consumed.

        Returns:
            The tensors: flat buckets, the optimizer's slots, loose leaves, buffers, the step count.

        Raises:
            StateError: the state is of another step, was consumed, or its step did not finish.
        """
        return values_of(self._engine, require_state(state))

    def state_of(self, values: Mapping[str, Tensor]) -> State:
        """A state of values by name; the inverse of `values_of`.

        Args:
            values: tensors of the shapes and dtypes that `values_of` gives; not copied.

        Raises:
            TreeError: one is missing, unknown, or of another shape or dtype.
        """
        return state_of(self._engine, values)

    def metrics_of(self, aux: Mapping[str, Tensor]) -> Metrics:
        """The metrics that the step itself would return, from what its graph returned; every rank calls it alike.

        Args:
            aux: of this rank.
        """
        return metrics_of(self._engine, aux)

    @property
    def lowered(self) -> LoweredStep:
        """What `init` made: schedule, stages, programs; prints with `as_text()`."""
        return self._engine.first()[1]

    def gather(self, state: State) -> tuple[Tree, Tree]:
        """The whole trees on every rank, in their original structure.

        Args:
            state: not consumed.

        Returns:
            Copies of the parameters and of the buffers; of buffers replica 0's.
        """
        require_state(state).require(self.lowered.signature)
        model, _ = self._engine.first()
        params = unflatten_named(model.specs[0], gather_params(self._engine, state.values))
        return params, unflatten_named(model.specs[1], gather_buffers(self._engine, state.values))

    def ema(self, state: State) -> Tree:
        """The averages of the parameters that `fp.optim.ema` keeps, on every rank, in the parameters' structure.

        Args:
            state: not consumed.

        Returns:
            Copies; a leaf that is not updated is as it is.

        Raises:
            StateError: the optimizer keeps no averages.

        Example:
            >>> import torch, funpipe as fp
            >>> loss = lambda p, x: (x @ p["w"]).sum()
            >>> step = fp.train_step(loss, fp.optim.ema(fp.optim.sgd(1.0), decay=0.5), backend="interpret")
            >>> state = step.init({"w": torch.ones(3)}, torch.ones(4, 3))
            >>> state, _ = step(state, torch.ones(4, 3))
            >>> step.gather(state)[0]["w"], step.ema(state)["w"]
            (tensor([-3., -3., -3.]), tensor([-1., -1., -1.]))
        """
        require_state(state).require(self.lowered.signature)
        return unflatten_named(self._engine.first()[0].specs[0], gather_averages(self._engine, state.values))

    def slots(self, state: State) -> dict[str, dict[str, Tensor]]:
        """What the optimizer keeps of the whole model, on every rank.

        Args:
            state: not consumed.

        Returns:
            For each slot, by its path in the optimizer's state (`"m"`, `"1.m"` in a chain), its leaves by name; copies.

        Example:
            >>> import torch, funpipe as fp
            >>> step = fp.train_step(lambda p, x: (x @ p["w"]).sum(), fp.optim.adam(), backend="interpret")
            >>> step.slots(step.init({"w": torch.ones(3)}, torch.ones(4, 3)))["m"]
            {'w': tensor([0., 0., 0.])}
        """
        require_state(state).require(self.lowered.signature)
        return gather_slots(self._engine, state.values)

    def state_dict(self, state: State) -> dict[str, Any]:
        """What this rank holds, by original names: `params`, `optimizer`, `buffers`, `step`.

        Args:
            state: not consumed; the tensors are views of it, valid until the next step.

        Returns:
            Nested dicts that `funpipe.runtime.checkpoint.save` takes.
        """
        return state_dict(self._engine, state)

    def load(self, state: State, saved: Mapping[str, Any]) -> State:
        """A state with saved values.

        Args:
            state: one of this step's, given up; a state whose step did not finish is fine.
            saved: what `state_dict` returned, or a checkpoint of it; leaves of other ranks may be among them.

        Returns:
            The new state; its tensors are copies.

        Raises:
            TreeError: a leaf is missing, or has another shape or dtype.
            StateError: `saved` is something else, or `state` is of another step.
        """
        return loaded(self._engine, state, saved)


def train_step(
    loss_fn: Callable[..., Any],
    optimizer: Optimizer,
    *,
    mesh: Mesh | MeshShape | None = None,
    stages: Cutter | int | None = None,
    schedule: str | Schedule | Table = "1f1b",
    num_microbatches: int = 1,
    batch_spec: Tree = 0,
    backend: str = "step",
    numerics: Numerics = "exact",
    buffers: Literal["first", "mean"] = "first",
    remat: Remat | Sequence[Remat] = "none",
    cuda_graph: CudaGraph = "auto",
    passes: Pass | Sequence[Pass] = (),
    precision: Precision | str | None = None,
    trace: Way = "auto",
    key: int | Tensor | None = None,
    max_shapes: int = 8,
    dynamic: Tree = None,
) -> TrainStep:
    """A training step of a pure loss function, over several devices or played by one.

    Args:
        loss_fn: `loss_fn(params, batch)`, with the keywords `buffers` and `key` (that of the step and microbatch) only
            if it names them; returns a scalar,
            `fp.Weighted(sum, weight)`, or `fp.Out(loss, aux={"acc": fp.mean(x)}, buffers=new)`.
        optimizer: of `fp.optim`.
        mesh: `fp.mesh(pp=..., dp=...)`, or the `MeshShape` of one, which is made from all processes; None: this process
            plays every rank.
        stages: `fp.stages.split_at({...})`, `fp.stages.balanced(n)`, a number of balanced stages, or None: the marks in
            the model, else as many balanced stages as the schedule has on the mesh, else one.
        schedule: a name ("1f1b", "gpipe"), a schedule, or a table.
        num_microbatches: into how many microbatches each replica's batch is split.
        batch_spec: the batch dimension of each leaf, as a prefix tree; None: every microbatch gets the whole leaf.
        backend: `"step"` compiles the whole step, `"regions"` each region, `"interpret"` nothing.
        numerics: `"exact"`: the bits do not depend on the schedule; `"fast"`: regions may be fused with each other.
        buffers: with several replicas, `"first"` returns replica 0's buffers, `"mean"` averages floating-point ones.
        remat: what backwards compute again instead of holding it since the forward, for all stages or a list with one
            for each: `"none"`; `"full"`, all but what crosses into the stage; `fp.stages.Budget(nbytes)` or an int, the
            bytes of one microbatch that a stage may hold: the cheapest operations are run again. The bits stay the same
            in `"interpret"`.
        cuda_graph: whether the step is recorded as a CUDA graph, which the host starts as a whole: `"auto"`, where the
            state is on a GPU and the step exchanges no messages; True: it is an error where it cannot be; False: never.
        passes: one or several over the programs of all ranks, such as `fp.passes.rebucket()`; applied behind those that
            every step goes through.
        precision: in which dtypes parameters are kept, the loss is computed, gradients are added and results are given:
            `fp.Precision(...)`, or the name of a preset (`"bf16"`, `"fp16"`); None: those of the leaves.
        trace: what may be done with a module that cannot be traced: `"export"` reads it with torch.export, `"modules"`
            calls it as it is, `"functional"` neither, `"auto"` both, in this order. `fp.explain` says what was done.
        key: of the random numbers that the loss function draws (dropout), a seed or what `fp.random.key` returned:
            what is drawn depends on the key, the step, the number of the microbatch in the global batch and the number
            of the draw, and on no cut, schedule, mesh or backend.
        max_shapes: for how many sizes of batches compiled steps are kept; those that ran last. A `FunpipeWarning` says
            when steps are compiled again and again.
        dynamic: the dimension of each leaf of the batch whose size changes from batch to batch, a prefix tree such as
            `{"tokens": 1, "labels": 1}`, None for leaves whose does not: the step is compiled once for all sizes.

    Returns:
        The step: `state = step.init(params, batch)`, then `state, metrics = step(state, batch)`.

    Raises:
        FunpipeError: an argument that cannot be; what does not fit the model is raised by `init`.

    Example:
        >>> import torch, funpipe as fp
        >>> def loss_fn(params, batch):
        ...     return (batch["x"] @ params["w"] - batch["y"]).square().mean()
        >>> step = fp.train_step(loss_fn, fp.optim.sgd(0.1), num_microbatches=2, backend="interpret")
        >>> batch = {"x": torch.ones(4, 3), "y": torch.zeros(4, 1)}
        >>> state = step.init({"w": torch.ones(3, 1)}, batch)
        >>> state, metrics = step(state, batch)
        >>> step.gather(state)[0]["w"].flatten()
        tensor([0.4000, 0.4000, 0.4000])
    """
    if optimizer is None:
        raise FunpipeTypeError(
            "the optimizer is None, and such a step would never train: pass one of funpipe.optim, such as "
            "fp.optim.adamw(3e-4), or use fp.value_and_grad for gradients alone."
        )
    return TrainStep(
        Setup(
            loss_fn,
            optimizer,
            make_mesh(pp=mesh.pp, dp=mesh.dp) if isinstance(mesh, MeshShape) else mesh,
            stages,
            schedule,
            num_microbatches,
            batch_spec,
            backend,
            numerics,
            buffers,
            remat,
            cuda_graph,
            tuple(passes) if isinstance(passes, Sequence) else (passes,),
            precision=resolve_precision(precision),
            trace=trace,
            key=key,
            max_shapes=max_shapes,
            dynamic=dynamic,
        )
    )
