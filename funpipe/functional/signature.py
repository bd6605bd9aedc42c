"""Calls a loss function with the keywords that it names."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from funpipe._errors import LossError
from funpipe._typing import Tree
from funpipe.functional.loss import LossOut, normalize
from funpipe.functional.tree import check_same, named_leaves, types_of

KEYWORDS = ("buffers", "key")
_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def keywords_of(loss_fn: Callable[..., Any]) -> dict[str, bool]:
    """Which of `buffers` and `key` a function names, and whether it must get them.

    Args:
        loss_fn: A function, a method, a callable object or a `functools.partial`; what a partial binds is not named.

    Returns:
        For each keyword that is named, whether it has no default.

    Raises:
        LossError: It cannot be called.

    Example:
        >>> keywords_of(lambda params, batch, *, buffers, key=None: None)
        {'buffers': True, 'key': False}
    """
    if not callable(loss_fn):
        raise LossError(f"the loss function is of type {type(loss_fn).__name__}; pass a function of params and batch.")
    try:
        parameters = inspect.signature(loss_fn).parameters
    except ValueError:  # a function of C that has no signature names nothing
        return {}
    bound = loss_fn.keywords if isinstance(loss_fn, partial) else {}
    named = {k: parameters[k] for k in KEYWORDS if k in parameters and k not in bound}
    return {k: p.default is inspect.Parameter.empty for k, p in named.items() if p.kind in _BY_KEYWORD}


def call_loss(
    loss_fn: Callable[..., Any],
    params: Tree,
    batch: Tree,
    buffers: Tree = None,
    key: Any = None,
    *,
    trains: bool = True,
) -> LossOut:
    """Calls `loss_fn(params, batch)`, with `buffers` and `key` only if it names them.

    Args:
        loss_fn: The loss function.
        params: Its parameters, any pytree.
        batch: Its batch, any pytree.
        buffers: The buffers, `None` if there are none.
        key: The key of the random numbers, `None` if there is none.
        trains: Whether buffers that it takes must come back; an evaluation may keep them.

    Returns:
        What it returned, checked.

    Raises:
        LossError: It names a keyword that was not given, it takes buffers and does not return them, it returns buffers
            and does not take them, or it returns something that is not a loss.
        TreeError: The buffers that it returns have another structure, shape or dtype than those it got.

    Example:
        >>> import torch
        >>> call_loss(lambda params, batch: (params * batch).sum(), torch.ones(2), torch.ones(2)).loss_sum
        tensor(2.)
    """
    given = {k: v for k, v in (("buffers", buffers), ("key", key)) if v is not None}
    named = keywords_of(loss_fn)
    for keyword, required in named.items():
        if required and keyword not in given:
            raise LossError(
                f"the loss function takes {keyword}, but got none; pass {keyword}=... where you pass the params, "
                f"or give the argument a default."
            )
    passed = {k: given[k] for k in named if k in given}
    out = normalize(loss_fn(params, batch, **passed))
    if trains or out.buffers is not None:
        _check_buffers(passed.get("buffers"), out.buffers)
    return out


def _check_buffers(given: Tree, returned: Tree) -> None:
    """Raises unless the buffers returned are like the buffers given."""
    if given is None and returned is None:
        return
    if given is None:
        raise LossError("the loss function returns buffers that it was not given; take them as a keyword, `buffers`.")
    if returned is None:
        raise LossError(
            "the loss function takes buffers, but does not return them; return fp.Out(loss, buffers=new_buffers)."
        )
    named, _ = named_leaves(given, what="buffers")
    check_same(types_of(named), returned, what="the buffers that the loss function returned")
