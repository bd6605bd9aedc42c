"""What a module keeps of a call while it is traced: stand-ins without values, which a later call must not find."""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from funpipe import _compat

_OWN = ("_parameters", "_modules")
"""Attributes of a module that are put back by what swaps its parameters."""

_SWAPPED = (*_OWN, "_buffers")
"""What a call by name swaps, and puts back itself."""

_CONTAINERS = (list, dict, set, deque, OrderedDict, defaultdict)
"""What grows from call to call."""


@contextmanager
def leaving_no_stand_ins() -> Iterator[None]:
    """While open, notes the attributes of modules that are called; puts back those that hold stand-ins at the end.

    Modules keep masks, rotary tables or losses of a call as attributes. The traced function may read them as long as it
    runs; afterwards a module is as it was.
    """
    kept: dict[nn.Module, dict[str, Any]] = {}
    try:
        with _noting(_attributes, kept):
            yield
    finally:
        for module, before in kept.items():
            _put_back(module, before)


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """While open, notes the attributes of modules that are called; puts back all of them at the end, counters too."""
    kept: dict[nn.Module, dict[str, Any]] = {}
    try:
        with _noting(_originals, kept):
            yield
    finally:
        for module, before in kept.items():
            _restore(module, before)


@contextmanager
def _noting(attributes: Callable[[nn.Module], dict[str, Any]], kept: dict[nn.Module, dict[str, Any]]) -> Iterator[None]:
    """While open, notes the attributes of each module before it is called, and of those in it."""

    def note(module: nn.Module, _args: Any) -> None:
        if module not in kept:
            kept.update((m, attributes(m)) for m in module.modules() if m not in kept)

    hook = register_module_forward_pre_hook(note)
    try:
        yield
    finally:
        hook.remove()


def _originals(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module, each with a copy if it is a container."""
    named = ((n, v) for n, v in vars(module).items() if n not in _SWAPPED)
    return {n: (v, copy(v) if type(v) in _CONTAINERS else None) for n, v in named}


def _restore(module: nn.Module, before: dict[str, Any]) -> None:
    held = vars(module)
    for name in [n for n in held if n not in before and n not in _SWAPPED]:
        del held[name]
    for name, (value, content) in before.items():
        held[name] = value
        if content is not None:
            value.clear()
            (value.update if isinstance(value, dict | set) else value.extend)(content)


def _attributes(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module; lists and dicts as copies."""
    return {n: v.copy() if isinstance(v, dict | list) else v for n, v in vars(module).items() if n not in _OWN}


def _put_back(module: nn.Module, before: dict[str, Any]) -> None:
    for name, value in list(vars(module).items()):
        if name in _OWN or not _holds_stand_in(value):
            continue
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            _put_back_entries(value, old)
        elif isinstance(value, list) and isinstance(old, list):
            value[:] = old
        elif name in before:
            vars(module)[name] = old
        else:
            del vars(module)[name]


def _put_back_entries(value: dict[Any, Any], old: dict[Any, Any]) -> None:
    for key in [k for k, v in value.items() if _holds_stand_in(v)]:
        if key in old and not _holds_stand_in(old[key]):
            value[key] = old[key]
        else:
            del value[key]


def _holds_stand_in(value: Any) -> bool:
    if isinstance(value, Tensor):
        return _compat.is_fake(value)
    if isinstance(value, dict):
        return any(map(_holds_stand_in, value.values()))
    return isinstance(value, list | tuple) and any(map(_holds_stand_in, value))
