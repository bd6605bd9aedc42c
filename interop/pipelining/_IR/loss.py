"""Which of a model's results is its loss."""

from collections.abc import Mapping
from typing import Any

from funpipe.interop.pipelining.errors import PipeRuntimeError


def loss_steps(structure: Any, spec: Any) -> tuple[Any, ...] | None:
    """What to index the results of a model with to get its loss; empty: they are the loss; None: there is none.

    Args:
        structure: the results of the model, with anything at the leaves.
        spec: `True` at the loss and `False` elsewhere, in containers as in the results; `True`: the only result; None:
            no loss.

    Raises:
        PipeRuntimeError: the containers differ, or nothing is marked.

    Example:
        >>> loss_steps({"loss": 0, "logits": 1}, {"loss": True, "logits": False})
        ('loss',)
    """
    if spec is None:
        return None
    found = _steps(structure, spec)
    if found is None:
        raise PipeRuntimeError(f"Did not find loss value in specification {spec!r}; write True where the loss is.")
    return found


def _steps(results: Any, spec: Any) -> tuple[Any, ...] | None:
    if isinstance(spec, tuple | list | Mapping):
        children = _children(results, spec)
        return next(((key, *below) for key, below in children if below is not None), None)
    if spec and isinstance(results, tuple | list | Mapping):
        raise PipeRuntimeError(
            f"Loss spec must specify a dynamic value but got {_shape(results)}; write True where the loss is in it."
        )
    return () if spec else None


def _children(results: Any, spec: Any) -> list[tuple[Any, tuple[Any, ...] | None]]:
    if isinstance(spec, Mapping) != isinstance(results, Mapping) or not isinstance(results, tuple | list | Mapping):
        raise PipeRuntimeError(
            f"Output value {_shape(results)} must match type of loss specification {spec!r}; "
            "use containers like the model's results."
        )
    keys = list(spec) if isinstance(spec, Mapping) else list(range(len(spec)))
    own = list(results) if isinstance(results, Mapping) else list(range(len(results)))
    if sorted(map(str, keys)) != sorted(map(str, own)):
        raise PipeRuntimeError(
            f"Output value {_shape(results)} must match length of loss specification {spec!r}; "
            f"the model's results have {own}."
        )
    return [(key, _steps(results[key], spec[key])) for key in keys]


def _shape(results: Any) -> str:
    """The containers of results, with dots for what is in them."""
    if isinstance(results, Mapping):
        return "{" + ", ".join(f"{key!r}: {_shape(value)}" for key, value in results.items()) + "}"
    if isinstance(results, tuple | list):
        return "(" + ", ".join(map(_shape, results)) + ")"
    return "..."
