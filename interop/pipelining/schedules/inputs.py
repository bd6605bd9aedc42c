"""What a user passes to a step: of the right type, of the right length, and not twice."""

import operator
from typing import Any

from funpipe.interop.pipelining.engine import Call
from funpipe.interop.pipelining.errors import PipeTypeError, PipeValueError


def require_count(n_microbatches: Any) -> int:
    """How many microbatches a step has.

    Raises:
        PipeValueError: no integer from 1 on.
    """
    try:
        count = operator.index(n_microbatches)
    except TypeError:
        count = 0
    if count < 1:
        raise PipeValueError(f"n_microbatches is {n_microbatches!r}; pass an integer from 1 on.")
    return count


def require_list(losses: Any) -> None:
    """What losses are put into is a list.

    Raises:
        PipeTypeError: it is something else.
    """
    if losses is not None and not isinstance(losses, list):
        raise PipeTypeError(f"losses must be a list but got a {type(losses)}; pass losses=[], which the step fills.")


def require_microbatches(given: Any, name: str, n_microbatches: int) -> None:
    """What is given for each microbatch is a list with an entry for each.

    Raises:
        PipeTypeError: it is no list.
        PipeValueError: it has fewer or more entries.
    """
    if given is None:
        return
    if not isinstance(given, list):
        raise PipeTypeError(f"{name} must be a list but got a {type(given)}; make one entry for each microbatch.")
    if len(given) != n_microbatches:
        raise PipeValueError(
            f"Expecting {n_microbatches} {name} but got {len(given)}; pass one for each microbatch, or make the "
            f"schedule with n_microbatches={max(len(given), 1)}."
        )


def require_call(call: Call, n_microbatches: int) -> None:
    """Whole arguments or microbatches of them, not both; and of these as many as there are.

    Raises:
        PipeTypeError, PipeValueError: something else was passed.
    """
    whole = {
        "arg_mbs": call.args,
        "kwarg_mbs": call.kwargs,
        "target_mbs": None if call.target is None else (call.target,),
    }
    given = {"arg_mbs": call.arg_mbs, "kwarg_mbs": call.kwarg_mbs, "target_mbs": call.target_mbs}
    for name, microbatches in given.items():
        require_microbatches(microbatches, name, n_microbatches)
        if microbatches is not None and whole[name]:
            raise PipeValueError(
                f"{name} and the whole batch's {name.removesuffix('_mbs')} were both passed; pass one of them."
            )
