"""Makes a `Compiled` of a call: trace, distribute, override, transform."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from funpipe import FunpipeError
from funpipe.interop.spmd.engine.arguments import Arguments
from funpipe.interop.spmd.engine.compiled import Compiled
from funpipe.interop.spmd.engine.deduplicate import without_duplicates
from funpipe.interop.spmd.engine.donated import donated
from funpipe.interop.spmd.engine.leaves import GRADS, OPTIMIZER, Leaf
from funpipe.interop.spmd.engine.optimizers import rates, require_supported
from funpipe.interop.spmd.engine.placeholders import Named, updated, without_unread
from funpipe.interop.spmd.engine.step import LEFT, Step, TracedStep
from funpipe.interop.spmd.engine.tracing import trace
from funpipe.interop.spmd.errors import SpmdTypeError, SpmdValueError
from funpipe.interop.spmd.iter_graph_module import IterGraphModule
from funpipe.interop.spmd.rewriting.layouts import lay_out_alike


@dataclass(frozen=True, eq=False)
class Options:
    """What `compile` was given.

    Args:
        function: the user's training step.
        overrides: of submodules.
        transformation: of the graph.
        mode: a `ParallelMode`: how the step is distributed.
    """

    function: Callable[..., Any]
    overrides: Sequence[Any]
    transformation: Callable[[fx.GraphModule], Any] | None
    mode: Any


@dataclass(frozen=True, eq=False)
class Made:
    """A step that was traced, before anything is done to its graph.

    Args:
        traced: the step.
        call: whose arguments it was traced with.
        leaves: the state.
    """

    traced: TracedStep
    call: Arguments
    leaves: Sequence[Leaf]

    @property
    def ignores_gradients(self) -> bool:
        """Whether nothing depends on gradients from before the step."""
        return not any(name.startswith(GRADS) for name in self.traced.module.meta["inputs"])


def traced(options: Options, call: Arguments, leaves: Sequence[Leaf]) -> Made:
    """Traces a call; what is done with gradients is the mode's.

    Args:
        options: what `compile` was given.
        call: the arguments.
        leaves: the state.
    """
    if call.optimizer is not None:
        require_supported(call.optimizer, call.model)
    shards = options.mode.prepare(call.model, call.optimizer)
    step = Step(options.function, call, leaves, rates(call.optimizer), options.mode.reduce, shards)
    found = trace(step)
    lay_out_alike(found.module.graph)
    without_unread(found.module, GRADS)
    return Made(found, call, leaves)


def compiled(options: Options, made: Made) -> Compiled:
    """Distributes and rewrites a traced step.

    Args:
        options: what `compile` was given.
        made: the step.
    """
    call, module = made.call, made.traced.module
    extra = {f"batch.const.{i}": x for i, x in enumerate(made.traced.constants)}
    module = without_duplicates(_partitioned(options, made))
    flat = [leaf.local for leaf in made.leaves if leaf.name in module.meta["inputs"]]
    names = Named(module, flat)
    for override in options.overrides:
        module = names.after(override.transform(module, flat))
    module = names.after(options.mode.transform_and_compile(module))
    inputs, outputs = module.meta["inputs"], module.meta["outputs"]
    new = updated(module)
    final = module if options.transformation is None else _transformed(options.transformation, module)
    returns, given = made.traced.returns, extra | names.added
    runs = donated(final, inputs, outputs, [*(leaf.local for leaf in made.leaves), *given.values()])
    return Compiled(final, runs, call.model, call.optimizer, inputs, outputs, new, given, returns)


_CLEAR = "call optimizer.zero_grad() at the end of the step instead of its beginning."


def _transformed(transformation: Callable[[fx.GraphModule], Any], module: fx.GraphModule) -> Any:
    inputs = module.meta["inputs"]
    try:
        made = transformation(module)
    except FunpipeError as error:
        if LEFT not in str(error):
            raise
        raise SpmdValueError(
            f"{error} The step leaves its gradients behind, and those of moved work are not there yet: {_CLEAR}"
        ) from error
    if not callable(made):
        raise SpmdTypeError(
            f"gm_transformation gave a {type(made).__name__}: return the graph module, or what is called instead of it "
            "(`return gm`)."
        )
    if isinstance(made, IterGraphModule) and made.graph.moves and any(name.startswith(GRADS) for name in inputs):
        raise SpmdValueError(
            "work is moved to the next iteration, and the step adds to gradients from before, which anybody may change "
            f"between the two: {_CLEAR}"
        )
    return made


def _partitioned(options: Options, made: Made) -> fx.GraphModule:
    call, module = made.call, made.traced.module
    params = {leaf.name.partition(".")[2].partition(".")[2]: leaf.tensor for leaf in made.leaves if not _is_state(leaf)}
    args, kwargs = call.filled(call.tensors)
    meta = dict(module.meta)
    found = options.mode.partition(
        module, call.model, call.optimizer, params, _named_states(made.leaves), tuple(args), kwargs
    )
    found.meta = {**meta, **found.meta}
    return found


def _is_state(leaf: Leaf) -> bool:
    return leaf.name.startswith((OPTIMIZER, GRADS))


def _named_states(leaves: Sequence[Leaf]) -> Mapping[str, dict[str, Tensor]]:
    """The optimizer's state by parameter."""
    found: dict[str, dict[str, Tensor]] = {}
    for leaf in leaves:
        if leaf.name.startswith(OPTIMIZER):
            name = leaf.name.removeprefix(OPTIMIZER).removesuffix(f".{leaf.key}")
            found.setdefault(name, {})[leaf.key] = leaf.tensor
    return found
