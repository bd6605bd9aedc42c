"""Marks in a model's code that say where a stage ends.

Outside of tracing a mark is nothing. While a model is traced, each tensor of a mark goes through the op
`funpipe::mark_stage_end`; the tracer finds its nodes in the graph, notes where they are, and removes them. So the op
must change nothing: its result has the strides of its input, or a view traced after it might not exist without it.

A model that is called again within a transform of `torch.func` (the inner step of MAML) passes its marks again: each
pass is a part of the forward, so its marks end stages too, and are numbered.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain, count
from typing import Any, TypeVar

import optree
import torch
from torch import Tensor

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.functional.transformed import is_transformed

T = TypeVar("T")

_collected: ContextVar[list[str] | None] = ContextVar("funpipe_stage_marks", default=None)
_repeatable: ContextVar[set[str] | None] = ContextVar("funpipe_repeatable_marks", default=None)


def mark_stage_end(x: T, name: str | None = None) -> T:
    """Marks the end of a stage in a model's code; the identity.

    Args:
        x: What goes from this stage to the next: a tensor, or any pytree with tensors.
        name: The stage's name in pictures and messages; by default numbered in the order of the calls.

    Returns:
        `x` itself; while tracing, a pytree of the same values.

    Raises:
        FunpipeTypeError: While tracing, `x` holds no tensor.
        StageError: While tracing, two marks outside of transforms have the same name.

    Example:
        >>> mark_stage_end(torch.ones(2), name="encoder")
        tensor([1., 1.])
    """
    # torch.compile cannot trace a ContextVar, and never compiles a model while funpipe traces it.
    names = None if torch.compiler.is_dynamo_compiling() else _collected.get()
    if names is None:
        return x
    label = f"mark{len(names)}" if name is None else _free(name, names, _within_transform(x))
    names.append(label)
    return _marked(x, label)


def _free(name: str, names: list[str], transformed: bool) -> str:
    """The label of a mark: its name, numbered where a transform passes it again."""
    repeatable = _repeatable.get()
    assert repeatable is not None
    if name in names and not transformed and name not in repeatable:
        raise StageError(f"two stage marks have the name {name!r}; give each its own, such as name=f'block{{i}}'.")
    label = next(x for x in chain([name], (f"{name}.{i}" for i in count(1))) if x not in names)
    if transformed:
        repeatable.add(name)
    else:
        repeatable.discard(name)
    return label


def _within_transform(x: Any) -> bool:
    return any(isinstance(leaf, Tensor) and is_transformed(leaf) for leaf in optree.tree_leaves(x))


@contextmanager
def collecting_marks() -> Iterator[list[str]]:
    """Within it, marks go into the graph as `funpipe::mark_stage_end`.

    Returns:
        A list that receives the name of each mark, in the order of the calls.

    Example:
        >>> with collecting_marks() as names:
        ...     y = mark_stage_end({"h": torch.ones(2)}, name="encoder")
        >>> names
        ['encoder']
    """
    names: list[str] = []
    token, other = _collected.set(names), _repeatable.set(set())
    try:
        yield names
    finally:
        _collected.reset(token)
        _repeatable.reset(other)


def _marked(x: Any, name: str) -> Any:
    """Passes each tensor of a pytree through the op."""
    leaves, structure = optree.tree_flatten(x)
    if not any(isinstance(leaf, Tensor) for leaf in leaves):
        raise FunpipeTypeError(
            f"the stage mark {name!r} got {type(x).__name__}, which holds no tensor that funpipe can see; "
            f"mark a tensor, or a dict, list or tuple of tensors."
        )
    marked = [_Mark.apply(leaf, name) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    return optree.tree_unflatten(structure, marked)


@torch.library.custom_op("funpipe::mark_stage_end", mutates_args=())
def mark_op(x: Tensor, name: str) -> Tensor:
    """A copy of `x` with the same strides; the identity for gradients."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    return x.as_strided((span,), (1,)).clone().as_strided(x.shape, x.stride())


@mark_op.register_fake
def _(x: Tensor, name: str) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return grad, None


mark_op.register_autograd(_backward)


@mark_op.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], x: Tensor, name: str) -> tuple[Tensor, int | None]:
    return mark_op(x, name), in_dims[0]


class _Mark(torch.autograd.Function):
    """The op for `torch.func.grad` too, which refuses a gradient registered with `register_autograd`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, name: str) -> Tensor:
        return mark_op(x, name)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, None]:
        return grads[0], None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        # Autograd refuses the tangent of an output that is the tangent of the input itself.
        return tangents[0].clone()
