"""`compile`: an imperative training step, traced whole at its first call and replayed at later ones."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from torch import Tensor, fx, nn
from torch.distributed.tensor import Placement

from funpipe.interop.spmd.engine import Calls, Compiled, Options
from funpipe.interop.spmd.engine import stateless_func as stateless_func
from funpipe.interop.spmd.errors import SpmdAttributeError, SpmdTypeError
from funpipe.interop.spmd.parallel_mode import DTensorExpandMode, ParallelMode

_CompiledResult = Compiled
COMPILED_OBJECT_KEY = "_compiled_obj"
"""The attribute of a compiled function that holds what its last call ran."""

dtensor_expand_mode = DTensorExpandMode()


class Override(ABC):
    """Replaces submodules that cannot be traced, and what stands for them in the graph by what runs.

    The user's model is as it was after tracing.
    """

    @abstractmethod
    def replacement(self, fqn: str, orig_submodule: nn.Module) -> nn.Module:
        """What to trace instead of a submodule.

        Args:
            fqn: its name in the model.
            orig_submodule: the submodule.

        Returns:
            Another module, or `orig_submodule` to leave it and be asked about what is in it.
        """

    @abstractmethod
    def transform(self, gm: fx.GraphModule, flat_state: list[Tensor]) -> fx.GraphModule:
        """Changes the graph of the step.

        Args:
            gm: the graph module; may be changed in place.
            flat_state: the tensors of its first placeholders. Who adds a placeholder among these inserts its tensor
                at the same place, and who erases one removes its.

        Returns:
            The graph module.
        """


@contextmanager
def _override_placements(t: Tensor, placements: Sequence[Placement]) -> Iterator[None]:
    """While open, a tensor argument of a step that is compiled by the default mode has these placements.

    Args:
        t: the argument.
        placements: `[Replicate()]` where all ranks have the same.
    """
    with dtensor_expand_mode.overriding_placements(t, placements):
        yield


def compile(
    module_override: Sequence[Override] | Override | None = None,
    gm_transformation: Callable[[fx.GraphModule], Any] | None = None,
    parallel_mode: ParallelMode | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compiles a training step: forward, backward, reduction of gradients and optimizer become one graph.

    The first call traces the step with the arguments of that call; a call that fits no graph there is (another model,
    batch shape, mode of the model, hyperparameter other than the learning rate) traces again. Parameters, buffers,
    optimizer state and gradients are written back into the objects that were passed.

    Args:
        module_override: replaces submodules while tracing, and rewrites their part of the graph.
        gm_transformation: changes the traced graph, once for each graph; returns what is called instead.
        parallel_mode: how the step is distributed; by default each rank's tensor arguments are its part of the batch,
            parameters are the same on all ranks, and gradients are summed over them.

    Returns:
        A decorator for functions with one `nn.Module` and at most one optimizer among their arguments. What it makes
        takes one more keyword, `last_train_step=True`, after which no deferred work is open, and has a method
        `flush()`, which does that at any other time. Both are for all ranks to call.

    Raises:
        SpmdTypeError: an argument of the wrong type.

    Example:
        >>> import torch
        >>> @compile()
        ... def train_step(model, optimizer, batch):
        ...     loss = model(batch).sum()
        ...     loss.backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        ...     return loss
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.ones_(model.weight)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        >>> float(train_step(model, optimizer, torch.ones(1, 2))), model.weight.tolist()
        (2.0, [[0.5, 0.5]])
    """
    overrides = _overrides(module_override)
    mode = _mode(parallel_mode)
    if gm_transformation is not None and not callable(gm_transformation):
        raise SpmdTypeError(
            f"gm_transformation is a {type(gm_transformation).__name__}; pass a function of a graph module."
        )

    def decorator(function: Callable[..., Any]) -> Callable[..., Any]:
        calls = Calls(Options(function, overrides, gm_transformation, mode))

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            last = kwargs.pop("last_train_step", False)
            try:
                return calls.run(args, kwargs, last)
            finally:
                wrapper.__dict__[COMPILED_OBJECT_KEY] = calls.current

        wrapper.flush = calls.flush  # type: ignore[attr-defined]
        return wrapper

    return decorator


def _overrides(given: Sequence[Override] | Override | None) -> Sequence[Override]:
    found = [] if given is None else [given] if isinstance(given, Override) else list(given)
    for override in found:
        if not isinstance(override, Override):
            raise SpmdTypeError(
                f"module_override has a {type(override).__name__}; give a list of instances of subclasses of Override."
            )
    return found


def _mode(given: ParallelMode | None) -> ParallelMode:
    if given is not None and not isinstance(given, ParallelMode):
        raise SpmdTypeError(
            f"parallel_mode is a {type(given).__name__}; give an instance of DataParallel or another ParallelMode."
        )
    return dtensor_expand_mode if given is None else given


def __getattr__(name: str) -> Any:
    if name in ("SPMD_DECOMP_TABLE", "FOREACH_DECOMP_TABLE"):
        raise SpmdAttributeError(
            f"there is no {name}: every operator that writes becomes its functional form without a table; leave it out."
        )
    raise SpmdAttributeError(f"module {__name__!r} has no attribute {name!r}.")
