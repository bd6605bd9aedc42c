"""An update of leaves that are cut into shards, each on one rank of an axis, in a pure step."""

from collections.abc import Mapping

from torch import Tensor

from funpipe._errors import FunpipeError
from funpipe.functional.axes import AxisName, axis_index, axis_size
from funpipe.functional.collectives import psum
from funpipe.functional.gathers import all_gather
from funpipe.optim.base import Entries, Optimizer, Rate, State
from funpipe.optim.members import member
from funpipe.optim.norm import norm_of_squares, square_sum
from funpipe.optim.plain import apply

Dims = int | None | Mapping[str, int | None]
"""The dimension along which each leaf is cut; None: each rank has it whole."""


def apply_sharded(
    optimizer: Optimizer,
    params: Entries,
    grads: Entries,
    state: State,
    step: Tensor,
    *,
    dims: Dims = 0,
    axis: AxisName = "dp",
    lr: Rate | None = None,
    key: Tensor | None = None,
) -> tuple[Entries, State]:
    """One update of this rank's shards: the numbers of `apply` on whole leaves.

    An elementwise update runs on the shards. A leaf whose update reads all of it (Muon, Adafactor) is gathered, with
    its gradient, updated on every rank, and cut again; its slots are whole on every rank, which its state must have:
    they are `optimizer.init` of whole leaves, and `None` in the `dims` of `fp.shard`. The global norm is that of all
    shards.

    Args:
        optimizer: any.
        params: this rank's shards by name.
        grads: of them, such as the derivative of `all_gather` gives.
        state: the optimizer's: sharded as the leaves, those of leaves that are gathered whole.
        step: 0-dim int64 tensor: updates done so far.
        dims: along which dimension each leaf is cut, by name, or one for all; None: it is whole on every rank.
        axis: the ranks that share the leaves.
        lr, key: as in `apply`.

    Returns:
        The new shards and state.

    Raises:
        FunpipeError: `dims` lacks a leaf.
        CommunicationError: it is called outside of a step that `fp.trace_step` traces.

    Example:
        >>> import torch, funpipe as fp
        >>> def step(state, batch):
        ...     new, _ = fp.optim.apply_sharded(fp.optim.sgd(0.5), state, batch, {}, torch.tensor(0))
        ...     return new, {}
        >>> shards = {"w": torch.ones(2, 4)}
        >>> "all_gather" in fp.trace_step(step, shards, shards, mesh=fp.MeshShape(pp=1, dp=2)).as_text()
        False

    Source: S. Rajbhandari et al., ZeRO: memory optimizations toward training trillion parameter models (2020).
    """
    along = {name: _dim(dims, name) for name in params}
    norm = _norm(grads, along, axis) if optimizer.needs_norm else None
    wide = {name: dim for name, dim in along.items() if dim is not None and _is_whole(optimizer, name, params[name])}
    whole, their = ({**e, **{n: all_gather(e[n], axis, dim) for n, dim in wide.items()}} for e in (params, grads))
    new, slots = apply(optimizer, whole, their, state, step, lr=lr, norm=norm, key=key)
    return {**new, **{name: _own(new[name], dim, axis) for name, dim in wide.items()}}, slots


def _dim(dims: Dims, name: str) -> int | None:
    if not isinstance(dims, Mapping):
        return dims
    if name not in dims:
        raise FunpipeError(f"apply_sharded: dims lacks {name!r}; give its dimension, or None if each rank has it whole")
    return dims[name]


def _is_whole(optimizer: Optimizer, name: str, leaf: Tensor) -> bool:
    """Whether the update of a leaf reads all of it."""
    label = optimizer.label(name, leaf) if optimizer.label else None
    return member(optimizer, label)[0].scope != "element"


def _norm(grads: Entries, along: Mapping[str, int | None], axis: AxisName) -> Tensor:
    squares = {name: square_sum(grad) for name, grad in grads.items()}
    return norm_of_squares({n: x if along[n] is None else psum(x, axis) for n, x in squares.items()})


def _own(leaf: Tensor, dim: int, axis: AxisName) -> Tensor:
    """This rank's share of a whole leaf."""
    rows = leaf.movedim(dim, 0)
    shares = rows.reshape(axis_size(axis), -1, *rows.shape[1:])
    return shares.index_select(0, axis_index(axis).reshape(1).to(leaf.device)).squeeze(0).movedim(0, dim).contiguous()
