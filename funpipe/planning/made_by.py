"""The function that a file names, called for what it trains."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch

from funpipe._errors import PlanError
from funpipe.tracing.where import user_line_of


def made_by(name: str, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the named function returns on the meta device.

    Args:
        name: `"module:function"`.
        arguments: of that function, by name.

    Returns:
        The loss function, the parameters, a batch, and buffers if there are any.

    Raises:
        PlanError: there is no such function, the arguments do not fit it, it raises, or it returns something else.

    Example:
        >>> from funpipe.planning.made_by import made_by
        >>> made_by("math:tau", {})
        Traceback (most recent call last):
        funpipe._errors.PlanError: model = 'math:tau' is no function but float. Name one as 'module:function'.
    """
    make = _function(name)
    try:
        inspect.signature(make).bind(**arguments)
    except TypeError as error:
        raise PlanError(f"arguments = {dict(arguments)!r} do not fit {name}: {error}. Correct them.") from error
    try:
        with torch.device("meta"):
            made = make(**arguments)
    except Exception as error:  # whatever the user's code raises
        raise PlanError(f"model = {name!r} raised {_said(error)}. Correct that line.") from error
    if not isinstance(made, tuple) or len(made) not in (3, 4) or not callable(made[0]):
        raise PlanError(
            f"{name} returned {_kind(made)}; return (loss_fn, params, batch), and buffers if any, as a tuple."
        )
    return made


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    if module.startswith("."):
        raise PlanError(f"model = {name!r} is a relative name; write all of it, as 'package.module:function'.")
    try:
        found: Any = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise PlanError(
            f"model = {name!r} is no function: {error}. Name one as 'module:function', importable from here."
        ) from error
    except Exception as error:  # whatever the user's module raises
        raise PlanError(f"model = {name!r} cannot be imported: {_said(error)}. Correct that line.") from error
    if not callable(found):
        raise PlanError(f"model = {name!r} is no function but {type(found).__name__}. Name one as 'module:function'.")
    return found


def _said(error: Exception) -> str:
    line = user_line_of(error)
    where = "" if line is None or isinstance(error, SyntaxError) else f" at {line}"  # a SyntaxError names its own
    return f"{type(error).__name__}{where}: {str(error).strip().rstrip('.')}"


def _kind(made: Any) -> str:
    return f"({', '.join(type(part).__name__ for part in made)})" if isinstance(made, tuple) else type(made).__name__
