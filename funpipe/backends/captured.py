"""A step that is recorded once and then replayed: the host starts it as a whole, and not kernel by kernel.

    call    state               what happens
    1       a                   runs as it is: kernels are loaded, libraries find their workspaces
    2       a, same memory      is recorded, which runs nothing, and replayed
    3 …     a, same memory      is replayed
    n       b                   runs as it is; if b comes again it is recorded in place of a

A recording reads and writes fixed addresses. The state is updated in place, so it is at the same ones in every step of
a training loop; the batch is copied to memory of the recording's own, and results are copied out of it, because the
next replay overwrites them. One recording is held: it keeps all memory that a step takes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from funpipe import _compat
from funpipe._errors import CompileError
from funpipe.programs.program import Program

Results = dict[str, Tensor]

WAITS = "not permitted when stream is capturing"
"""What CUDA says to whatever waits for the device while a step is recorded."""


class Recordable(Protocol):
    """A step in two parts."""

    program: Program

    def arguments(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """What is done on the host; gives the arguments of the rest: the inputs in their places, and others."""
        ...

    def run(self, arguments: Sequence[Tensor]) -> Results:
        """The rest, which only starts kernels; gives the program's outputs."""
        ...

    def as_text(self) -> str:
        """See `Executable.as_text`."""
        ...


class Recorder(Protocol):
    """Records what a function does to the memory of a device."""

    def __call__(self, run: Callable[[], Results]) -> tuple[Callable[[], object], Results]:
        """Calls the function; nothing of what it starts on the device runs.

        Args:
            run: the function.

        Returns:
            What runs it, again and again, and the tensors that hold its results after each time.
        """
        ...


@dataclass(frozen=True, eq=False)
class Recording:
    """A recorded step.

    Args:
        addresses: of the state that it reads and writes.
        batch: its own memory of the inputs that are no state, by their position.
        replay: runs it.
        results: overwritten by each replay.
    """

    addresses: tuple[int, ...]
    batch: dict[int, Tensor]
    replay: Callable[[], object]
    results: Results


class Captured:
    """A step with its recording.

    Args:
        step: in two parts.
        recorder: records the one on the device.
        writes: whether the step changes the state; an evaluation does not.
        required: whether it is an error if the step cannot be recorded; otherwise it runs as it is.
    """

    def __init__(self, step: Recordable, recorder: Recorder, writes: bool = True, required: bool = False) -> None:
        self.step, self.recorder, self.writes, self.required = step, recorder, writes, required
        self.program = step.program
        names = step.program.inputs
        self.given = [i for i, n in enumerate(names) if n.startswith(("batch.", "const."))]
        self.kept = [i for i, n in enumerate(names) if i not in self.given and n != "step"]
        self.before: tuple[int, ...] | None = None
        self.recording: Recording | None = None
        self.count = 0
        self.refused = ""

    @torch.no_grad()
    def __call__(self, inputs: Sequence[Tensor]) -> Results:
        arguments = self.step.arguments(inputs)
        addresses = tuple(inputs[i].data_ptr() for i in self.kept)
        again, self.before = addresses == self.before, addresses
        if again and not self.refused and (self.recording is None or self.recording.addresses != addresses):
            self._record(arguments, addresses)
        if self.recording is not None and self.recording.addresses == addresses:
            results = self._replay(self.recording, inputs)
        else:
            results = self._run(arguments)
        return dict(zip(self.program.inputs, inputs, strict=True)) | results

    def as_text(self) -> str:
        """What the step is, and whether it is replayed."""
        return f"{self.step.as_text()}\n{self._how()}\n"

    def _how(self) -> str:
        if self.refused:
            return f"runs without a CUDA graph: {self.refused}"
        if self.recording is None:
            return "becomes a CUDA graph at the second step in a row on the same state"
        return f"replayed as one CUDA graph, recorded {'once' if self.count == 1 else f'{self.count} times'}"

    def _record(self, arguments: Sequence[Tensor], addresses: tuple[int, ...]) -> None:
        self.recording = None  # its memory is free for the next one
        batch = {i: arguments[i].clone() for i in self.given}
        fixed = [batch.get(i, argument) for i, argument in enumerate(arguments)]
        try:
            replay, results = self.recorder(lambda: self._run(fixed))
        except RuntimeError as error:  # nothing has run, so the state is as it was
            self.refused = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            if self.required:
                raise CompileError(f"the step cannot become a CUDA graph: {self.refused}. {_remedy(error)}") from error
            return
        self.recording = Recording(addresses, batch, replay, results)
        self.count += 1

    def _replay(self, recording: Recording, inputs: Sequence[Tensor]) -> Results:
        for i, own in recording.batch.items():
            own.copy_(inputs[i], non_blocking=True)
        recording.replay()
        return {name: value.clone() for name, value in recording.results.items()}

    def _run(self, arguments: Sequence[Tensor]) -> Results:
        """Results that are no state; new state goes where the old was, so that the next step finds it there."""
        results = self.step.run(arguments)
        if not self.writes:
            return results
        where = {n: i for i, n in enumerate(self.program.inputs) if n in results}
        held = [arguments[i] for i in where.values()]
        new = [_apart(results[n], held) for n in where]
        for old, value in zip(held, new, strict=True):
            old.copy_(value)
        return {n: v for n, v in results.items() if n not in where}


def _apart(value: Tensor, held: Sequence[Tensor]) -> Tensor:
    """A value that stays while any of the others is overwritten."""
    return value.clone() if any(_compat.same_memory(value, other) for other in held) else value


def _remedy(error: RuntimeError) -> str:
    """What to do about a recording that failed."""
    without = "leave cuda_graph='auto', with which a step that cannot be recorded runs without"
    if WAITS in str(error):
        waits = "Something in it waits for the device, such as reading a tensor's value"
        return f"{waits}: take that out of the loss function, or {without}."
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"A recording takes the memory of a whole step for itself: take more, smaller microbatches, or {without}."
        )
    return f"If this is not in your hands, {without}."
