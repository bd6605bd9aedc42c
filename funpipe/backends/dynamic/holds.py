"""The conditions under which code that was compiled for many sizes may run, as text beside the code."""

import json
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

_MARK = "# holds "
_NAMES: dict[str, Callable[..., Any]] = {
    "Eq": operator.eq,
    "Ne": operator.ne,
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "FloorDiv": operator.floordiv,
    "CeilDiv": lambda a, b: -(-a // b),
    "CleanDiv": operator.floordiv,
    "Max": max,
    "Min": min,
}


def with_conditions(code: str, symbol: str, conditions: Sequence[str]) -> str:
    """Code with its conditions on its first line.

    Args:
        code: Python.
        symbol: the name of the size in the conditions.
        conditions: expressions that must be true.
    """
    return f"{_MARK}{json.dumps([symbol, *conditions])}\n{code}"


def is_for_many_sizes(code: str) -> bool:
    """Whether code has conditions, and the compiler did not take the size for a number.

    Args:
        code: of `with_conditions`, or for one size.

    Example:
        >>> codes = [with_conditions("pass", "s0", [text]) for text in ("s0 <= 8", "Eq(s0, 8)")]
        >>> [is_for_many_sizes(code) for code in (*codes, "pass")]
        [True, False, False]
    """
    if not code.startswith(_MARK):
        return False
    symbol, *conditions = _conditions(code)
    return not any(re.fullmatch(rf"Eq\({symbol}, \d+\)", condition) for condition in conditions)


def holds(code: str, size: int) -> bool:
    """Whether code may run at a size; a condition that cannot be read is not met.

    Args:
        code: of `with_conditions`.
        size: the size.

    Example:
        >>> code = with_conditions("pass", "s0", ["Eq(Mod(s0, 8), 0)", "s0 <= 64"])
        >>> [holds(code, n) for n in (16, 20, 72)]
        [True, False, False]
    """
    symbol, *conditions = _conditions(code)
    return all(_is_met(condition, {**_NAMES, symbol: size, "__builtins__": {}}) for condition in conditions)


def _conditions(code: str) -> list[str]:
    """The name of the size, and the conditions; code without any is for no size."""
    first, _, _ = code.partition("\n")
    return json.loads(first.removeprefix(_MARK)) if first.startswith(_MARK) else ["size", "False"]


def _is_met(condition: str, names: dict[str, Any]) -> bool:
    try:
        return bool(eval(condition, names))
    except (NameError, SyntaxError, TypeError, ZeroDivisionError):
        return False
