"""What `plan` is told to choose from: whether one can choose from it."""

from collections.abc import Sequence
from typing import Any

from funpipe._errors import FunpipeTypeError, PlanError
from funpipe.planning.candidate import divisors

ZERO = (0, 1, 2, 3)
"""The stages of ZeRO."""


def require_choices(devices: int, **choices: Any) -> None:
    """Raises if one of `plan`'s choices is no list, is empty, or has what cannot be.

    Args:
        devices: of the cluster.
        choices: by name; None for what is left out.

    Raises:
        FunpipeTypeError: a single value in place of a list.
        PlanError: a list that is empty, or with a value that cannot be.

    Example:
        >>> from funpipe.planning.choices import require_choices
        >>> require_choices(8, pp=(2, 4), rows=None)
        >>> require_choices(8, pp=(3,))
        Traceback (most recent call last):
        funpipe._errors.PlanError: none of pp=(3,) divides the 8 devices; use some of 1, 2, 4, 8.
    """
    for name, given in choices.items():
        if given is not None:
            _require_list(name, given)
    for name in ("rows", "pp"):
        _require_counts(name, choices.get(name) or ())
    for stage in choices.get("shard") or ():
        if stage not in ZERO or isinstance(stage, bool):
            raise PlanError(f"shard has {stage!r}; the stages of ZeRO are 0, 1, 2 and 3.")
    if choices.get("pp") and not set(choices["pp"]) & set(divisors(devices)):
        raise PlanError(
            f"none of pp={tuple(choices['pp'])} divides the {devices} devices; use some of "
            f"{', '.join(map(str, divisors(devices)))}."
        )


def _require_list(name: str, given: Any) -> None:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise FunpipeTypeError(f"{name} is {given!r}; pass a list to choose from, such as [{given!r}].")
    if len(given) == 0:
        raise PlanError(f"{name} is empty; pass at least one to choose from, or leave it out.")


def _require_counts(name: str, given: Sequence[Any]) -> None:
    for value in given:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise PlanError(f"{name} has {value!r}; pass ints of at least 1.")
