"""Names of leaves as names in code: a graph's inputs are named after leaves, whose names may be any text."""

import re

_OTHERS = re.compile(r"\W", re.ASCII)


def identifier(name: str) -> str:
    """A name with what Python's names cannot have replaced; two names may become the same.

    Args:
        name: begins with a letter.

    Example:
        >>> identifier("param_layers.0.w-q")
        'param_layers_0_w_q'
    """
    return _OTHERS.sub("_", name)
