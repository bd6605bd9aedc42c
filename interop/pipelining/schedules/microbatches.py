"""The batch of a step in microbatches, as a schedule that is walked action by action splits and merges it."""

from typing import Any

from funpipe.interop.pipelining.engine import Call
from funpipe.interop.pipelining.microbatch import merge_chunks, split_args_kwargs_into_chunks, split_targets
from funpipe.interop.pipelining.schedules.inputs import require_list, require_microbatches


class Microbatches:
    """The part of a schedule that knows microbatches; what a user's own schedule calls.

    Needs of the class: `_n_microbatches`, `_args_chunk_spec`, `_kwargs_chunk_spec`, `_output_merge_spec`.
    """

    _n_microbatches: int
    _args_chunk_spec: tuple[Any, ...] | None
    _kwargs_chunk_spec: dict[str, Any] | None
    _output_merge_spec: dict[str, Any] | tuple[Any] | None

    def _check_inputs(
        self,
        arg_mbs: list[tuple[Any, ...]] | None = None,
        kwarg_mbs: list[dict[str, Any]] | None = None,
        target_mbs: list[Any] | None = None,
        losses: list[Any] | None = None,
    ) -> tuple[list[Any], list[Any]]:
        """Checks microbatches; gives empty ones where there are no arguments."""
        given = {"arg_mbs": arg_mbs, "kwarg_mbs": kwarg_mbs, "target_mbs": target_mbs}
        for name, microbatches in given.items():
            require_microbatches(microbatches, name, self._n_microbatches)
        require_list(losses)
        count = self._n_microbatches
        return [()] * count if arg_mbs is None else arg_mbs, [{}] * count if kwarg_mbs is None else kwarg_mbs

    def _in_microbatches(self, call: Call) -> tuple[list[Any], list[Any], list[Any] | None]:
        """Arguments, keyword arguments and targets of each microbatch.

        Raises:
            Exception: what was found to be wrong with the call.
        """
        if call.error is not None:
            raise call.error
        args, kwargs = self._split_inputs(call.args, dict(call.kwargs))
        targets = call.target_mbs
        if targets is None and call.target is not None:
            targets = split_targets(call.target, self._n_microbatches)
        arg_mbs, kwarg_mbs = list(call.arg_mbs or args), [dict(one) for one in call.kwarg_mbs or kwargs]
        self._check_inputs(arg_mbs, kwarg_mbs)
        return arg_mbs, kwarg_mbs, None if targets is None else list(targets)

    def _split_inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> tuple[list[Any], list[Any]]:
        """The arguments of each microbatch."""
        if not args and not kwargs:
            return [()] * self._n_microbatches, [{}] * self._n_microbatches
        specs = self._args_chunk_spec, self._kwargs_chunk_spec
        return split_args_kwargs_into_chunks(args, kwargs, self._n_microbatches, *specs)

    def _merge_outputs(self, output_chunks: list[Any]) -> Any:
        """The outputs of all microbatches as one."""
        return merge_chunks(output_chunks, self._output_merge_spec)
