"""The forward of one stage and one microbatch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from funpipe.interop.pipelining._backward.paired import shown
from funpipe.interop.pipelining.errors import PipeRuntimeError
from funpipe.interop.pipelining.stage.checked import check
from funpipe.interop.pipelining.stage.inputs import call_of
from funpipe.interop.pipelining.stage.outputs import flat_tensors

if TYPE_CHECKING:
    from funpipe.interop.pipelining.stage.base import _PipelineStageBase


def forward(
    stage: "_PipelineStageBase", microbatch: int, args: Sequence[Any], kwargs: Mapping[str, Any], keep_output: bool
) -> Any:
    """Runs a stage's module on one microbatch and keeps what its backward and its readers need.

    Returns:
        What the module returned.

    Raises:
        PipeRuntimeError: an input is missing, or the module raised.
        PipeliningMetadataError: tensors are not as declared, where that is checked.
    """
    args, kwargs = call_of(stage, microbatch, args, kwargs)
    check(stage, "forward input", stage.inputs_meta, flat_tensors(args))
    output = _called(stage, args, kwargs)
    check(stage, "forward output", stage.outputs_meta, flat_tensors(output))
    received = stage.received.get(microbatch, {})
    known = {id(tensor) for tensor in received.values()}
    own = [tensor for tensor in flat_tensors((args, kwargs)) if id(tensor) not in known]
    stage.fwd_cache[microbatch] = flat_tensors(output), [*received.values(), *own]
    if stage.is_last and keep_output:
        stage.output_chunks.append(output)
    return output


def _called(stage: "_PipelineStageBase", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return stage.forward_maybe_with_nosync(*args, **kwargs)
    except Exception as error:
        raise PipeRuntimeError(
            f"{stage.log_prefix} failed to run forward: {error}\n  args: {shown(args)}\n  kwargs: {shown(kwargs)}\n"
            "  Call the stage's module with tensors like these to see where it fails"
        ) from error
