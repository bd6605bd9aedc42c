"""Collectives along the first dimension, with their derivatives.

A step on many ranks is one function of all ranks' values, and what is differentiated is the sum of all ranks' outputs.
So each transpose is again a collective:

    total = Σᵣ xᵣ   on every rank       gradient of x = Σᵣ gᵣ                    psum        ↔ psum
    whole = [x₀, x₁, …]  on every rank  gradient of x = own part of Σᵣ gᵣ        all_gather  ↔ reduce_scatter
    part  = own part of Σᵣ xᵣ           gradient of x = [g₀, g₁, …]              reduce_scatter ↔ all_gather

All three are linear, so a forward derivative is the collective of the tangents. Each starts and waits at once; passes
over the graph move the two apart.

Source of the rules: A. Griewank and A. Walther, Evaluating Derivatives (2008), section 3.2: the adjoint of a linear map
is its transpose.
"""

from typing import Any

from torch import Tensor
from torch.autograd import Function

from funpipe._errors import CommunicationError
from funpipe.functional.axes import Members
from funpipe.functional.communication import OPERATORS

_all_reduce = OPERATORS.all_reduce.default
_all_gather = OPERATORS.all_gather.default
_reduce_scatter = OPERATORS.reduce_scatter.default
_wait = OPERATORS.wait_tensor.default


class _Collective(Function):
    """What all have in common: a tensor and the ranks come in."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.members = inputs[1]


class AllReduceSum(_Collective):
    """The sum over the ranks, on each of them."""

    @staticmethod
    def forward(x: Tensor, members: Members) -> Tensor:
        return _wait(_all_reduce(x.contiguous(), "sum", members.axis))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, None]:
        return AllReduceSum.apply(grads[0], ctx.members), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return AllReduceSum.apply(tangents[0], ctx.members)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, members: Members) -> tuple[Any, int]:
        return AllReduceSum.apply(x, members), in_dims[0]


class AllGather(_Collective):
    """The ranks' tensors one after the other along the first dimension, on each of them."""

    @staticmethod
    def forward(x: Tensor, members: Members) -> Tensor:
        return _wait(_all_gather(x.contiguous(), members.axis, members.size))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, None]:
        return ReduceScatter.apply(grads[0], ctx.members), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return AllGather.apply(tangents[0], ctx.members)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, members: Members) -> tuple[Any, int]:
        return AllGather.apply(x.movedim(in_dims[0], 1), members), 1


class ReduceScatter(_Collective):
    """The sum over the ranks, of which each gets its share of the first dimension."""

    @staticmethod
    def forward(x: Tensor, members: Members) -> Tensor:
        return _wait(_reduce_scatter(x.contiguous(), "sum", members.axis, members.size))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, None]:
        return AllGather.apply(grads[0], ctx.members), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return ReduceScatter.apply(tangents[0], ctx.members)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, members: Members) -> tuple[Any, int]:
        return ReduceScatter.apply(x.movedim(in_dims[0], 1), members), 1


class AllReduceExtreme(_Collective):
    """The largest or the smallest value over the ranks; it has no derivative."""

    @staticmethod
    def forward(x: Tensor, members: Members, reduce: str) -> Tensor:
        return _wait(_all_reduce(x.contiguous(), reduce, members.axis))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.reduce = inputs[2]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise CommunicationError(_no_derivative(ctx.reduce))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise CommunicationError(_no_derivative(ctx.reduce))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, members: Members, reduce: str) -> tuple[Any, int]:
        return AllReduceExtreme.apply(x, members, reduce), in_dims[0]


def _no_derivative(reduce: str) -> str:
    return (
        f"p{reduce} has no derivative: which rank's value is the {reduce} is not told. Pass x.detach() where no "
        f"gradient is meant to flow, or all_gather the values and take their .a{reduce}() on each rank."
    )
