"""What one rank gives to one step: a tree of arguments for each microbatch, checked to be alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from funpipe.interop.pipelining.engine.call import Call
from funpipe.interop.pipelining.engine.options import Options
from funpipe.interop.pipelining.errors import PipeValueError
from funpipe.interop.pipelining.microbatch import split_args_kwargs_into_chunks, split_targets


@dataclass(frozen=True, eq=False)
class Given:
    """The arguments of each microbatch.

    Args:
        args, kwargs, targets: one entry for each microbatch.
        loss_kwargs: the same for all.
    """

    args: Sequence[tuple[Any, ...]]
    kwargs: Sequence[Mapping[str, Any]]
    targets: Sequence[Any] | None
    loss_kwargs: Mapping[str, Any]


def given(call: Call, options: Options) -> Given:
    """Splits what was passed, unless it was passed in microbatches.

    Args:
        call: of this rank.
        options: how to split.

    Raises:
        PipeValueError: there are fewer or more microbatches than the schedule has.
    """
    if call.error is not None:
        raise call.error
    count = options.num_microbatches
    args, kwargs = _split(call, options)
    targets = call.target_mbs
    if targets is None and call.target is not None:
        targets = split_targets(call.target, count)
    for name, found in (("arg_mbs", args), ("kwarg_mbs", kwargs), ("target_mbs", targets)):
        if found is not None and len(found) != count:
            raise PipeValueError(
                f"Expecting {count} {name} but got {len(found)}: pass a batch of {count} microbatches, or "
                "make the schedule with another n_microbatches."
            )
    if options.with_indices:
        kwargs = [{**one, "mb_idx": torch.tensor(i)} for i, one in enumerate(kwargs)]
    return Given(args, kwargs, targets, call.loss_kwargs or {})


def _split(call: Call, options: Options) -> tuple[Sequence[tuple[Any, ...]], Sequence[Mapping[str, Any]]]:
    count = options.num_microbatches
    if call.arg_mbs is not None or call.kwarg_mbs is not None:
        return call.arg_mbs or [()] * count, call.kwarg_mbs or [{}] * count
    if not call.args and not call.kwargs:
        return [()] * count, [{}] * count
    specs = options.args_chunk_spec, options.kwargs_chunk_spec
    return split_args_kwargs_into_chunks(call.args, dict(call.kwargs), count, *specs)
