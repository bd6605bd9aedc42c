"""`init`: the parameters of a module, each made from its name, where and when it is wanted."""

from collections.abc import Callable, Iterable
from typing import Any

import optree
import torch
from torch import Tensor, nn

from funpipe import _compat
from funpipe._errors import FunpipeTypeError
from funpipe.functional import random
from funpipe.functional.deferred.leaf import deferred
from funpipe.functional.deferred.recording import Place, Record, recording
from funpipe.functional.deferred.replay import Replay
from funpipe.functional.functionalize import PureModule, functionalize

Named = dict[str, Tensor]


def init(module_fn: Callable[[], nn.Module], key: int | Tensor) -> tuple[PureModule, Named, Named]:
    """A module as a pure function, with parameters that are made on the rank that keeps them.

    The module is built without memory, and how it initialises each tensor is noted. `step.init` gives values to the
    leaves of its own stages alone, one after the other, so that no rank holds the whole model. The numbers of a leaf
    depend on the key, its name and its own initialisation: not on the rank, the cut, or on other leaves.

    Args:
        module_fn: builds the module, as in `lambda: GPT(config)`; its random numbers are drawn from the key.
        key: a seed, or a key of `fp.random`.

    Returns:
        `(apply, params, buffers)` as `functionalize` gives them, but the leaves are on the meta device.
        `fp.materialise` gives values to a whole tree.

    Raises:
        FunpipeTypeError: `module_fn` is a module or returns something else.
        TraceError: it reads a random number in Python.

    Example:
        >>> apply, params, buffers = init(lambda: nn.Linear(3, 2), key=0)
        >>> params["weight"].device, params["weight"].shape
        (device(type='meta'), torch.Size([2, 3]))
    """
    if isinstance(module_fn, nn.Module) or not callable(module_fn):
        raise FunpipeTypeError(
            f"fp.init takes a function that builds the module, not a {type(module_fn).__name__}: pass "
            "lambda: Model(config), or use fp.functionalize(module) for a module that has values."
        )
    root = random.key(key)
    with recording(lambda record, place: Replay(record, {}, root).make(place)) as record:
        module = module_fn()
    if not isinstance(module, nn.Module):
        raise FunpipeTypeError(f"fp.init: the function returned a {type(module).__name__}; return an nn.Module.")
    named = dict(_named(module))
    places = {name: record.place(t) for name, t in named.items() if _compat.is_fake(t)}
    replay = Replay(record, places, root)
    _without_stand_ins(module, record, replay)
    apply, params, buffers = functionalize(module)
    given = [{n: _leaf(n, t, replay, places) for n, t in part.items()} for part in (params, buffers)]
    return apply, given[0], given[1]


def _named(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Parameters, then buffers."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def _leaf(name: str, tensor: Tensor, replay: Replay, places: dict[str, Place]) -> Tensor:
    if name not in places:
        return tensor
    return deferred(lambda: replay.make(places[name]), tensor, tensor.requires_grad)


def _without_stand_ins(module: nn.Module, record: Record, replay: Replay) -> None:
    """Puts tensors on the meta device where a module has stand-ins, and values where it keeps a plain tensor."""
    twins: dict[int, Tensor] = {}
    for part in module.modules():
        for registered in (part._parameters, part._buffers):
            for name, tensor in registered.items():
                if tensor is not None and _compat.is_fake(tensor):
                    registered[name] = twins.setdefault(id(tensor), _twin(tensor))  # type: ignore[assignment]

    def other(value: Any) -> Any:
        if id(value) in twins:
            return twins[id(value)]
        return replay.make(record.place(value)) if _is_stand_in(value) else value

    for part in module.modules():
        for name, value in vars(part).items():
            if name not in _REGISTERED and any(map(_is_stand_in, optree.tree_leaves(value))):
                vars(part)[name] = optree.tree_map(other, value)


_REGISTERED = ("_parameters", "_buffers", "_modules")


def _is_stand_in(value: Any) -> bool:
    return isinstance(value, Tensor) and _compat.is_fake(value)


def _twin(tensor: Tensor) -> Tensor:
    """A stand-in's like on the meta device, with the attributes that were set on it."""
    meta = torch.empty_strided(tuple(tensor.shape), tensor.stride(), dtype=tensor.dtype, device="meta")
    if not isinstance(tensor, nn.Parameter):
        return meta
    twin = nn.Parameter(meta, requires_grad=tensor.requires_grad)
    with _compat.fake_mode():
        own = vars(nn.Parameter(torch.empty(0)))
    vars(twin).update({name: value for name, value in vars(tensor).items() if name not in own})
    return twin
