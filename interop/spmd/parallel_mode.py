"""`ParallelMode`: how a traced step is distributed over the ranks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, fx, nn
from torch.distributed.tensor import Placement, Replicate, Shard
from torch.optim import Optimizer

from funpipe.interop.pipelining.trees import flatten
from funpipe.interop.spmd.data_parallel import DataParallelStyle, distributed_state
from funpipe.interop.spmd.engine.communication import ranks
from funpipe.interop.spmd.engine.own_rows import without_own_gathers
from funpipe.interop.spmd.engine.reach import without_reductions_of_replicated
from funpipe.interop.spmd.engine.shards import Shard as Rows
from funpipe.interop.spmd.engine.shards import mean, total
from funpipe.interop.spmd.errors import SpmdNotImplementedError, SpmdRuntimeError, SpmdTypeError

CustomPasses = Callable[[fx.GraphModule], fx.GraphModule]


class ParallelMode(ABC):
    """How a step is distributed; `compile` asks it for everything that differs between ranks.

    A subclass that defines the two abstract methods gets the graph of a step without communication.
    """

    @abstractmethod
    def partition(
        self,
        gm: fx.GraphModule,
        model: nn.Module,
        optimizer: Optimizer | None,
        params_and_buffers: Mapping[str, Tensor],
        named_states: Mapping[str, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> fx.GraphModule:
        """The graph of this rank.

        Args:
            gm: the traced step: flat tensors in, a flat tuple out; no operator writes.
            model, optimizer: of the step.
            params_and_buffers: of the model, by name.
            named_states: the optimizer's, by parameter.
            args, kwargs: of this call.
        """

    @abstractmethod
    def transform_and_compile(self, gm: fx.GraphModule) -> fx.GraphModule:
        """What else is done to the graph, after the overrides and before `gm_transformation`."""

    def prepare(self, model: nn.Module, optimizer: Optimizer | None) -> Mapping[str, Rows]:
        """Distributes the state before a step is traced; by default each rank has all of it.

        Args:
            model, optimizer: of the step; may be changed.

        Returns:
            The rows that this rank has of sharded parameters, by name.
        """
        return {}

    def reduce(self, gradient: Tensor, rows: Rows | None) -> Tensor:
        """What becomes of a gradient while a step is traced; by default it stays each rank's own.

        Args:
            gradient: of a whole parameter.
            rows: that this rank has of the parameter, if it is sharded.
        """
        return gradient


class DataParallel(ParallelMode):
    """Each rank has its part of the batch, and gradients are the mean of the ranks'.

    The model's parameters and the optimizer's state become distributed tensors: `p.to_local()` is what this rank has
    of one, `p.full_tensor()` the whole.

    Args:
        parallel_style: "replicate": each rank has every parameter whole. "fully_shard": each has its rows of every
            parameter and of the optimizer's state.
        input_batch_dim: the dimension of the batch in the inputs. Each rank's step is traced with its part, so that no
            result depends on it.
        custom_passes: applied to each rank's graph.

    Raises:
        SpmdRuntimeError: there is no such style.
        SpmdNotImplementedError: the style is "default".
        SpmdTypeError: `input_batch_dim` is not a number.
    """

    def __init__(
        self, parallel_style: str = "replicate", *, input_batch_dim: int = 0, custom_passes: CustomPasses | None = None
    ) -> None:
        if parallel_style not in {style.value for style in DataParallelStyle}:
            raise SpmdRuntimeError(f"Unknown parallel style: {parallel_style}. Use 'replicate' or 'fully_shard'.")
        if parallel_style == DataParallelStyle.DEFAULT.value:
            raise SpmdNotImplementedError("default mode not implemented. Use 'replicate' or 'fully_shard'.")
        if not isinstance(input_batch_dim, int):
            raise SpmdTypeError(f"input_batch_dim is {input_batch_dim!r}; give the number of a dimension.")
        self.parallel_style = DataParallelStyle(parallel_style)
        self.input_batch_dim = input_batch_dim
        self._custom_passes = custom_passes

    def prepare(self, model: nn.Module, optimizer: Optimizer | None) -> Mapping[str, Rows]:
        """Makes the state distributed tensors."""
        return distributed_state(model, optimizer, self.parallel_style)

    def reduce(self, gradient: Tensor, rows: Rows | None) -> Tensor:
        """The mean of the ranks' gradients."""
        return mean(gradient) if rows is None else rows.mean(gradient)

    def partition(
        self,
        gm: fx.GraphModule,
        model: nn.Module,
        optimizer: Optimizer | None,
        params_and_buffers: Mapping[str, Tensor],
        named_states: Mapping[str, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> fx.GraphModule:
        """The graph as it was traced, with what this rank has, without gathers that nobody needs."""
        return without_own_gathers(gm, ranks()[0])

    def transform_and_compile(self, gm: fx.GraphModule) -> fx.GraphModule:
        """Applies `custom_passes`."""
        return gm if self._custom_passes is None else self._custom_passes(gm)


class DTensorExpandMode(ParallelMode):
    """Each rank has its part of the batch, and gradients are the sum of the ranks'; what `compile` does by default.

    Args:
        custom_passes: applied to each rank's graph.
    """

    def __init__(self, custom_passes: CustomPasses | None = None) -> None:
        self._placements: dict[int, Sequence[Placement]] = {}
        self._custom_passes = custom_passes

    @contextmanager
    def overriding_placements(self, tensor: Tensor, placements: Sequence[Placement]) -> Iterator[None]:
        """While open, an argument of the step is not a part of the batch but what `placements` say.

        Args:
            tensor: the argument, in the call that is compiled.
            placements: `[Replicate()]`, or `[Shard(dim)]`, which is what is assumed anyway.

        Raises:
            SpmdNotImplementedError: they are something else.
        """
        if len(placements) != 1 or not isinstance(placements[0], Replicate | Shard):
            raise SpmdNotImplementedError(
                f"an argument cannot have the placements {list(placements)}; use [Replicate()] or [Shard(dim)]."
            )
        self._placements[id(tensor)] = placements
        try:
            yield
        finally:
            del self._placements[id(tensor)]

    def reduce(self, gradient: Tensor, rows: Rows | None) -> Tensor:
        """The sum of the ranks' gradients."""
        return total(gradient)

    def partition(
        self,
        gm: fx.GraphModule,
        model: nn.Module,
        optimizer: Optimizer | None,
        params_and_buffers: Mapping[str, Tensor],
        named_states: Mapping[str, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> fx.GraphModule:
        """The graph without reductions of what is the same on all ranks, because all it comes from is replicated."""
        tensors = [leaf for leaf in flatten((list(args), kwargs))[0] if isinstance(leaf, Tensor)]
        if not any(self._is_replicated(x) for x in tensors):
            return gm
        parts = {f"batch.{i}" for i, x in enumerate(tensors) if not self._is_replicated(x)}
        return without_reductions_of_replicated(gm, parts)

    def _is_replicated(self, tensor: Tensor) -> bool:
        placements = self._placements.get(id(tensor), ())
        return any(isinstance(placement, Replicate) for placement in placements)

    def transform_and_compile(self, gm: fx.GraphModule) -> fx.GraphModule:
        """Applies `custom_passes`."""
        return gm if self._custom_passes is None else self._custom_passes(gm)
