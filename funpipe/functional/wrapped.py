"""A function in the place of a loss function takes the keywords that the loss function takes."""

import inspect
from collections.abc import Callable
from typing import Any

from funpipe.functional.signature import keywords_of


def with_keywords_of(loss_fn: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a function the keywords `buffers` and `key` where a loss function names them.

    Args:
        loss_fn: a loss function.
        function: `function(params, batch, **keywords)`.

    Returns:
        The function itself; its signature now says which keywords it wants.

    Raises:
        LossError: `loss_fn` cannot be called.

    Example:
        >>> keywords_of(with_keywords_of(lambda params, batch, *, key: None, lambda params, batch, **keywords: None))
        {'key': True}
    """
    kind = inspect.Parameter
    first = [kind(name, kind.POSITIONAL_OR_KEYWORD) for name in ("params", "batch")]
    named = [
        kind(name, kind.KEYWORD_ONLY, default=kind.empty if required else None)
        for name, required in keywords_of(loss_fn).items()
    ]
    function.__signature__ = inspect.Signature([*first, *named])  # type: ignore[attr-defined]
    return function
