"""A stage as a pure function: its module, called with what it is wired to, and on the last stage the loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from funpipe.functional import PureModule
from funpipe.interop.pipelining.engine.inputs import Own
from funpipe.interop.pipelining.engine.options import Options
from funpipe.interop.pipelining.engine.shapes import Shape
from funpipe.interop.pipelining.engine.skeleton import Skeleton, apart
from funpipe.interop.pipelining.errors import PipeValueError
from funpipe.tracing import Leaf, Part

LOSS = "loss"
"""The name of the loss among a stage's outputs."""

Named = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class StageFunction:
    """What a stage computes of one microbatch.

    Args:
        index: the stage's.
        model: the user's module as a pure function, with its parameters and buffers.
        positional: its positional arguments, without their tensors.
        own: what its rank gives.
        loss_fn: on the last stage, where there are targets.
        extra: further keyword arguments.
    """

    index: int
    model: tuple[PureModule, Named, Named]
    positional: Sequence[Skeleton]
    own: Own
    loss_fn: Any = None
    extra: tuple[tuple[str, Any], ...] = ()

    def __call__(self, params: Named, buffers: Named, inputs: Named) -> tuple[Named, Named]:
        """The outputs, in tree order, with the loss behind them, and the new buffers."""
        out, new = self.run(params, buffers, inputs)
        outputs = dict(apart(as_tuple(out), "out")[1])
        for skeleton in self.own.passed.values():
            outputs |= {name: inputs[name] for name in skeleton.names}
        if self.loss_fn is not None:
            outputs[LOSS] = self._loss(out, inputs)
        if not outputs:
            raise PipeValueError(f"stage {self.index} returns no tensor: return what the stage after it needs.")
        return outputs, new

    def run(self, params: Named, buffers: Named, inputs: Named) -> tuple[Any, Named]:
        """What the module returns, and the new buffers."""
        apply, _, _ = self.model
        args = [skeleton.fill(inputs) for skeleton in self.positional]
        kwargs = {**self.own.kwargs.fill(inputs), **dict(self.extra)}
        return apply(params, buffers, *args, **kwargs)

    def during(self, params: Named, buffers: Named, backward: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Runs the backward with these leaves in the module: layers with a checkpoint read them again."""
        leaves = {f"module.{n}": leaf for n, leaf in (*params.items(), *buffers.items())}
        return torch.func.functional_call(_Calling(self.model[0].module), leaves, (backward,))

    def _loss(self, out: Any, inputs: Named) -> Tensor:
        target = self.own.target.fill(inputs) if self.own.target is not None else None
        loss = self.loss_fn(out, target, **self.own.loss_kwargs.fill(inputs))
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            kind = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise PipeValueError(f"loss_fn returned {kind}: return one number as a tensor, such as the mean.")
        return loss.reshape(())


class _Calling(nn.Module):
    """A module that, called, calls something else."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, function: Callable[[], list[Tensor]]) -> list[Tensor]:
        return function()


def as_tuple(out: Any) -> tuple[Any, ...]:
    """What a stage returned as the positional arguments of the next one: a list or tuple item by item."""
    return tuple(out) if isinstance(out, list | tuple) and not hasattr(out, "_fields") else (out,)


def part_of(function: StageFunction, wired: Mapping[str, Leaf], options: Options, training: bool) -> Part:
    """A stage's function with the types of what it takes.

    Args:
        function: the stage's.
        wired: the inputs that come from other stages.
        options: of the schedule.
        training: whether it is differentiated.
    """
    _, params, buffers = function.model
    device = next((t.device.type for t in (*params.values(), *buffers.values())), None)
    own = {n: Leaf.of(t, device) for n, t in function.own.tensors[0].items()}
    return Part(
        function,
        {n: Leaf.of(t) for n, t in params.items()},
        {n: Leaf.of(t) for n, t in buffers.items()},
        {**own, **wired},
        during=function.during,
        loss=LOSS if training and function.loss_fn is not None else None,
        random=True,
        name="its module",
    )


def shape_of(function: StageFunction, part: Part) -> Shape:
    """What a stage returns, found without computing anything.

    Args:
        function: the stage's.
        part: the same with types.
    """
    kept: list[Skeleton] = []

    def noting(params: Named, buffers: Named, inputs: Named) -> tuple[Named, Named]:
        out, new = function.run(params, buffers, inputs)
        skeleton, tensors = apart(as_tuple(out), "out")
        kept.append(skeleton)
        return tensors | {n: inputs[n] for passed in function.own.passed.values() for n in passed.names}, new

    leaves = replace(part, function=noting).outputs()
    return Shape(kept[0], leaves, function.own.passed)
