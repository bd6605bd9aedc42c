"""What the text arguments of operators name: an operator takes no Python object, so it takes a name for one.

    with collecting() as objects:      while a step is traced
        text = note("adamw(lr=0.1)", optimizer)
    with knowing(objects):             while its graph runs
        optimizer = known("adamw(lr=0.1)")

There is no table for the whole process: a graph carries its own.

An operator that compiled code calls must not raise, for that code is C++ and would go on with what it was not given. It
gives its error to `fail`, and some result; `knowing` raises the first error at its end.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from funpipe._errors import GraphError

_known: ContextVar[Mapping[str, Any] | None] = ContextVar("known", default=None)
_failures: ContextVar[list[Exception] | None] = ContextVar("failures", default=None)
_collected: ContextVar[dict[str, Any] | None] = ContextVar("collected", default=None)


@contextmanager
def knowing(objects: Mapping[str, Any]) -> Iterator[None]:
    """While open, `known` finds these objects; at its end it raises what was given to `fail`.

    Args:
        objects: by name.
    """
    failures: list[Exception] = []
    tokens = _known.set(objects), _failures.set(failures)
    try:
        yield
    finally:
        _known.reset(tokens[0])
        _failures.reset(tokens[1])
    if failures:
        raise failures[0]


def fail(error: Exception) -> None:
    """Keeps an error until `knowing` ends; raises it where nothing is open.

    Args:
        error: that an operator cannot raise.
    """
    failures = _failures.get()
    if failures is None:
        raise error
    failures.append(error)


def known(name: str) -> Any:
    """The object of a name.

    Raises:
        GraphError: no graph that is running has an object of this name.
    """
    objects = _known.get() or {}
    if name not in objects:
        raise GraphError(
            f"no object is known as {name!r}: run the graph with graphs.interpret or fp.compile_step, which know the "
            "objects that the graph carries."
        )
    return objects[name]


@contextmanager
def collecting() -> Iterator[dict[str, Any]]:
    """While open, collects the objects that are noted: a step is being traced."""
    found: dict[str, Any] = {}
    token = _collected.set(found)
    try:
        with knowing(found):
            yield found
    finally:
        _collected.reset(token)


def is_collecting() -> bool:
    """Whether a step is being traced."""
    return _collected.get() is not None


def note(name: str, value: Any) -> str:
    """Gives an object a name in the graph that is being traced.

    Args:
        name: the wanted name.
        value: the object.

    Returns:
        The name: the wanted one, or with a number behind it where that is taken by an object that is not equal.

    Raises:
        GraphError: no step is being traced.
    """
    found = _collected.get()
    if found is None:
        raise GraphError(f"{name!r} is noted outside a trace: call it in a step that fp.trace_step traces.")
    tried, number = name, 0
    while (taken := found.setdefault(tried, value)) is not value and taken != value:
        number += 1
        tried = f"{name}#{number}"
    return tried
