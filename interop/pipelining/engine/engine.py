"""`Engine`: plans a step at its first call and whenever something changes, and runs it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

from funpipe.interop.pipelining.engine import running
from funpipe.interop.pipelining.engine.call import Call
from funpipe.interop.pipelining.engine.calls import Calls, Mode, Seen
from funpipe.interop.pipelining.engine.joining import Joined, join
from funpipe.interop.pipelining.engine.keeping import follow, initial_state, keep, require_apart, require_unchanged
from funpipe.interop.pipelining.engine.options import Options
from funpipe.interop.pipelining.engine.planning import Local, plan
from funpipe.interop.pipelining.engine.running import Ready
from funpipe.interop.pipelining.engine.shared import add_up
from funpipe.interop.pipelining.microbatch import merge_chunks
from funpipe.programs import Programs
from funpipe.runtime import Job, breaking, compile_everywhere
from funpipe.schedules import Table, forward_only


@dataclass(eq=False)
class Engine:
    """What a schedule runs on one rank.

    Args:
        stages: of this rank.
        table: of all ranks.
        options: what holds for all steps.
    """

    stages: Sequence[Any]
    table: Table
    options: Options
    joined: Joined | None = None
    ready: dict[tuple[int, ...], Ready] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)
    updating: Programs | None = None
    looks: int = 0

    def __post_init__(self) -> None:
        self.calls = Calls(self.options, self.table.num_stages)

    def step(
        self, call: Call, *, training: bool = True, losses: list[Any] | None = None, return_outputs: bool = True
    ) -> Any:
        """Runs one step; all ranks call it.

        Args:
            call: this rank's arguments.
            training: whether gradients are computed.
            losses: is cleared and filled with the loss of every microbatch, where the last stage is.
            return_outputs: whether to return what the last stage does.

        Returns:
            The merged outputs on the rank of the last stage, else None.

        Raises:
            PipeRuntimeError: another rank cannot run the step.
            FunpipeError: this one cannot.
        """
        joined, mode = self._join(), Mode(training, return_outputs)
        numbers, seen = joined.numbers(lambda: self.calls.see(call, joined, mode))
        if numbers not in self.ready:
            self.ready[numbers] = self._planned(joined, seen, mode)
        ready = self.ready[numbers]
        found = self._run(ready, joined, seen, training)
        if losses is not None and self.table.num_stages - 1 in joined.held.modules:
            losses[:] = running.losses(found, self.table.num_stages - 1, self.options.num_microbatches)
        return self._merged(ready, found) if return_outputs else None

    def _join(self) -> Joined:
        if self.joined is None:
            self.joined = join(self.stages, self.table, _with_attributes(self.options.loss_fn))
        return self.joined

    def _planned(self, joined: Joined, seen: Seen, mode: Mode) -> Ready:
        table = self.table if mode.training else forward_only(self.table)
        optimizer = self.options.optimizer if mode.training else None
        if optimizer is not None:
            require_apart(joined.held.modules, joined.shared)
        modules, owns = joined.held.modules, seen.owns()
        try:
            planned = plan(Local(joined.ranks, table, self.options, modules, owns, joined.wirings, *mode))
        finally:
            joined.held.settle()
        if optimizer is not None:
            require_unchanged(self.updating or planned.programs, planned.programs)
            self.updating = planned.programs
        job = Job(
            planned.programs,
            joined.ranks.rank,
            self.options.backend,
            optimizer,
            mesh=joined.mesh,
            transport=joined.transport,
            device=joined.device,
        )
        with _without_casts(joined.device):
            ready = Ready(planned, compile_everywhere(job), joined.ranks.rank)
        if len(self.state) < 2:
            self.state = initial_state(ready, modules, optimizer)
        return ready

    def _run(self, ready: Ready, joined: Joined, seen: Seen, training: bool) -> dict[str, Tensor]:
        """Runs the program, and does to the modules what a user finds there after a step."""
        with breaking(joined.transport), torch.no_grad(), _without_casts(joined.device):
            self._follow(ready, joined, training)
            found = ready.run(joined.held.tensors, seen.batch, self.state)
            keep(self.state, found)
            running.keep_buffers(found, joined.held.tensors)
            if training:
                gradients = running.gradients_of(ready, found)
                add_up(gradients, joined.shared, joined.ranks, joined.device)
                running.add_gradients(gradients, joined.held.tensors)
        if training and seen.wants_gradients:
            running.give_back(found, seen.owns())
        return found

    def _follow(self, ready: Ready, joined: Joined, training: bool) -> None:
        """Takes over what was done to parameters since the step before, where the step updates them itself."""
        if training and self.options.optimizer is not None and self.looks != joined.held.looks:
            follow(ready, joined.held.tensors, self.state)
            joined.held.look()
            self.looks = joined.held.looks

    def _merged(self, ready: Ready, found: dict[str, Tensor]) -> Any:
        made = running.outputs(ready, found, self.table.num_stages - 1, self.options.num_microbatches)
        return None if made is None else merge_chunks(made, self.options.output_merge_spec)


def _without_casts(device: torch.device) -> AbstractContextManager[Any]:
    """Programs contain the casts that they were traced with; what runs them adds none."""
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext()


def _with_attributes(loss_fn: Any) -> list[Any]:
    """The loss function, if it is an object with a state of its own."""
    return [] if loss_fn is None or isinstance(loss_fn, FunctionType | MethodType | BuiltinFunctionType) else [loss_fn]
