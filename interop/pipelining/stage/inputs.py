"""What a stage's module is called with: what other stages made, and the user's own arguments."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from funpipe.interop.pipelining.errors import PipeRuntimeError
from funpipe.interop.pipelining.wiring import Argument

if TYPE_CHECKING:
    from funpipe.interop.pipelining.stage.base import _PipelineStageBase


def call_of(
    stage: "_PipelineStageBase", microbatch: int, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of one call of a stage's module.

    Args:
        stage: which stage.
        microbatch: its number.
        args: the user's positional arguments: the first stage's, or those of the whole traced model.
        kwargs: the user's keywords: those of a manual stage's module, or those of the whole traced model.

    Raises:
        PipeRuntimeError: an input has not come yet, or is an argument that this rank was not given.
    """
    if stage.wiring is not None:
        found = [_find(stage, microbatch, argument, args, kwargs) for argument in stage.wiring]
        return tuple(found), {}
    if stage.is_first:
        return tuple(args), dict(kwargs)
    received = stage.received.get(microbatch)
    if received is None:
        raise _not_received(stage, microbatch, stage.stage_index - 1)
    return tuple(received[argument] for argument in sorted(received, key=lambda a: int(a.index))), dict(kwargs)


def _find(
    stage: "_PipelineStageBase", microbatch: int, argument: Argument, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    if argument.stage is not None:
        received = stage.received.get(microbatch, {})
        if argument not in received:
            raise _not_received(stage, microbatch, argument.stage)
        return received[argument]
    given: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
    found = [given[way] for way in argument.ways if way in given]
    if not found:
        raise PipeRuntimeError(
            f"{stage.log_prefix} reads the model's argument {argument.index!r}, which this rank was not given; "
            "pass the model's arguments on every rank whose stages read them"
        )
    return found[0]


def _not_received(stage: "_PipelineStageBase", microbatch: int, source: int) -> PipeRuntimeError:
    return PipeRuntimeError(
        f"{stage.log_prefix} has not received microbatch {microbatch} from stage {source}; "
        "receive it (get_fwd_recv_ops) or hand it over (set_local_fwd_input) before its forward"
    )
