"""What must hold for each model of the list through `funpipe.interop.pipelining`; a failure is an error that says so.

Every stage is in this process, and a microbatch is what the model is given in one call.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from funpipe.interop.pipelining import Pipe, ScheduleGPipe, ScheduleInterleaved1F1B, SplitPoint, pipeline
from funpipe.interop.pipelining.trees import flatten
from tests.models.entry import Entry, Given

MICROBATCHES, STEPS = 2, 3
EXPECTED = ("the sizes of the example arguments are fixed", "the schedule runs its stages in eager mode")
"""How the warnings begin that a model of the list may cause."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without those warnings; all others stay what they are."""
    with warnings.catch_warnings():
        for text in EXPECTED:
            warnings.filterwarnings("ignore", message=text)
        yield


@dataclass(frozen=True, eq=False)
class Cut:
    """A model of the list that is cut before modules.

    Args:
        entry: of the list.
        cuts: the modules.
    """

    entry: Entry
    cuts: tuple[str, ...]

    @cached_property
    def model(self) -> nn.Module:
        """What is cut."""
        return self.entry.build()

    @cached_property
    def whole(self) -> nn.Module:
        """The same, for the plain loop."""
        return self.entry.build()

    @cached_property
    def pipe(self) -> Pipe:
        """The stages."""
        with quiet():
            return pipeline(self.model, *self.entry.inputs(0), split_spec=dict.fromkeys(self.cuts, POINT))

    @cached_property
    def stages(self) -> list[nn.Module]:
        """Their modules."""
        return [self.pipe.get_stage_module(stage) for stage in range(self.pipe.num_stages)]

    @cached_property
    def schedule(self) -> Any:
        """What runs them."""
        stages = [self.pipe.build_stage(stage, torch.device("cpu")) for stage in range(self.pipe.num_stages)]
        more: dict[str, Any] = {"loss_fn": lambda out, target: self.entry.loss(out), "backend": "interpret"}
        if len(stages) == 1:
            return ScheduleGPipe(stages[0], MICROBATCHES, **more)
        return ScheduleInterleaved1F1B(stages, MICROBATCHES, **more)

    def step(self, number: int) -> tuple[Tensor, Tensor]:
        """The losses of a step, and those of the plain loop; `.grad` of both models is that of this step."""
        self.model.zero_grad()
        self.whole.zero_grad()
        return self._step(number), self._plain_step(number)

    def _given(self, number: int) -> list[Given]:
        return [self.entry.inputs(10 * number + i) for i in range(MICROBATCHES)]

    def _step(self, number: int) -> Tensor:
        given, losses = self._given(number), []
        with quiet():
            self.schedule.step(
                arg_mbs=[args for args, _ in given],
                kwarg_mbs=[kwargs for _, kwargs in given],
                target_mbs=[torch.zeros(1)] * MICROBATCHES,
                losses=losses,
                return_outputs=False,
            )
        return torch.stack(losses)

    def _plain_step(self, number: int) -> Tensor:
        losses = []
        for args, kwargs in self._given(number):
            loss = self.entry.loss(self.whole(*args, **kwargs))
            (loss / MICROBATCHES).backward()
            losses.append(loss.detach())
        return torch.stack(losses)


POINT = SplitPoint.BEGINNING


def converts(cut: Cut) -> None:
    """A stage ends before each of the modules."""
    assert cut.pipe.num_stages > len(cut.cuts), (cut.pipe.num_stages, cut.cuts)


def forward(cut: Cut) -> None:
    """For new inputs the stages, one after the other, return what the model does, in its containers."""
    args, kwargs = cut.entry.inputs(3)
    kept = {name: buffer.clone() for name, buffer in cut.model.named_buffers()}
    found = cut.pipe.executor.run(*cut.pipe.bind(args, kwargs))
    for name, buffer in kept.items():
        cut.model.get_buffer(name).copy_(buffer)
    wanted = cut.entry.build()(*args, **kwargs)
    assert type(found) is type(wanted)
    ours, theirs = ([leaf for leaf in flatten(out)[0] if isinstance(leaf, Tensor)] for out in (found, wanted))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def names(cut: Cut) -> None:
    """Stages have no name that the model lacks, together all of them, and save what it saves."""
    assert {name for stage in cut.stages for name in stage.state_dict()} == set(cut.model.state_dict())
    for stage in cut.stages:
        for name, parameter in stage.named_parameters(remove_duplicate=False):
            assert cut.model.get_parameter(name) is parameter
        for name, buffer in stage.named_buffers(remove_duplicate=False):
            assert cut.model.get_buffer(name) is buffer


def gradients(cut: Cut) -> None:
    """The losses, every gradient and every buffer after a step are those of the whole model."""
    torch.testing.assert_close(*cut.step(0))
    for name, parameter in cut.whole.named_parameters():
        found, wanted = (_or_zeros(p) for p in (cut.model.get_parameter(name), parameter))
        torch.testing.assert_close(found, wanted, msg=lambda text, name=name: f"{name}: {text}")
    for name, buffer in cut.whole.named_buffers():
        torch.testing.assert_close(cut.model.get_buffer(name), buffer)


def _or_zeros(parameter: nn.Parameter) -> Tensor:
    """The gradient of a parameter; zeros if nothing uses it."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def three_steps(cut: Cut) -> None:
    """Three steps have the losses of the plain loop."""
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9) for module in (cut.model, cut.whole)]
    for number in range(STEPS):
        found, wanted = cut.step(number)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        for optimizer in optimizers:
            optimizer.step()


def checks(entry: Entry) -> dict[str, Callable[[], None]]:
    """The columns of the table for a model, each a check that raises; they share what they make."""
    two = Cut(entry, entry.two)
    columns = (converts, forward, names, gradients, three_steps)
    found = {column.__name__.replace("_", " "): partial(column, two) for column in columns}
    if entry.four:
        found["4 stages"] = partial(gradients, Cut(entry, entry.four))
    if entry.inside:
        found["inside a block"] = partial(gradients, Cut(entry, entry.inside))
    return found


def check(entry: Entry) -> dict[str, bool | str]:
    """For each column whether it holds, or the beginning of what was raised."""
    found: dict[str, bool | str] = {}
    for name, run in checks(entry).items():
        try:
            run()
            found[name] = True
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"[:300]
    return found
