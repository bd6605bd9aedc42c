"""What must hold for each model of the list through funpipe's own functions; a failure is an error that says which."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import funpipe as fp
from tests.models.entry import Entry
from tests.models.problem import Problem, eager, eager_losses

MICROBATCHES = 2
NEAR = 1e-4
"""How far a leaf's gradient may be off, relative to its largest value: float32, summed in another order."""
RESOLUTION = torch.finfo(torch.float32).eps
"""How far every gradient may be off, relative to the largest of all: where terms cancel out (the bias of keys in
attention), what is left is rounding."""

OPTIMIZERS: tuple[tuple[Any, Callable[..., torch.optim.Optimizer]], ...] = (
    (fp.optim.sgd(0.05, momentum=0.9), lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9)),
    (fp.optim.adamw(1e-3), lambda ps: torch.optim.AdamW(ps, lr=1e-3)),
)


def names(problem: Problem) -> None:
    """Leaves have the model's own names, and go back into it."""
    module = problem.module
    assert list(problem.params) == [n for n, _ in module.named_parameters()]
    assert list(problem.buffers) == [n for n, _ in module.named_buffers()]
    other = problem.entry.build()
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    fp.restore(other, problem.params, problem.buffers)
    for (name, found), wanted in zip(other.state_dict().items(), module.state_dict().values(), strict=True):
        assert torch.equal(found, wanted), name


def at(cuts: tuple[str, ...]) -> fp.stages.Cutter:
    """Cuts before modules."""
    return fp.stages.split_at(dict.fromkeys(cuts, "beginning"))


def gradients(problem: Problem, cuts: tuple[str, ...], backend: str = "interpret") -> None:
    """The loss and every gradient of a cut model are those of the whole one, for two batches."""
    f = fp.value_and_grad(
        problem.loss, stages=at(cuts), num_microbatches=MICROBATCHES, backend=backend, trace="functional"
    )
    for seed in (0, 7):
        loss, found = f(problem.params, problem.batch(seed), problem.buffers)
        wanted = eager(problem, seed, MICROBATCHES)
        torch.testing.assert_close(loss, wanted.loss)
        largest = max(_largest(gradient) for gradient in wanted.gradients.values())
        for name, gradient in wanted.gradients.items():
            torch.testing.assert_close(found[name], gradient, msg=lambda m, name=name: f"{name}: {m}")
            off, size = _largest(found[name] - gradient), _largest(gradient)
            assert off <= NEAR * size + RESOLUTION * largest, (name, off, size, largest)


def _largest(values: Tensor) -> float:
    """The largest absolute value; 0 where there is none."""
    return values.abs().max().item() if values.numel() else 0.0


def forward(problem: Problem, cuts: tuple[str, ...], backend: str = "interpret") -> None:
    """All that the model returns for new inputs is what a cut one makes."""
    started = start(problem, cuts, backend, OPTIMIZERS[0][0])
    compare_forward(problem, *started)


def compare_forward(problem: Problem, step: fp.TrainStep, state: fp.State) -> None:
    """What an evaluation on a state reports is what the model returns."""
    metrics = fp.eval_step(problem.loss, like=step)(state, problem.batch(3))
    for i, wanted in enumerate(eager(problem, 3, MICROBATCHES).values):
        torch.testing.assert_close(metrics[f"value{i}"], wanted)


def three_steps(problem: Problem, cuts: tuple[str, ...], backend: str = "interpret") -> None:
    """Three steps of two optimizers have the losses of the plain loop."""
    for ours, theirs in OPTIMIZERS:
        compare_steps(problem, *start(problem, cuts, backend, ours), theirs)


def compare_steps(
    problem: Problem, step: fp.TrainStep, state: fp.State, theirs: Callable[..., torch.optim.Optimizer]
) -> None:
    """Three steps from a state have the losses of the plain loop."""
    losses = []
    for number in range(3):
        state, metrics = step(state, problem.batch(number))
        losses.append(float(metrics["loss"]))
    for found, wanted in zip(losses, eager_losses(problem, theirs, 3, MICROBATCHES), strict=True):
        assert abs(found - wanted) <= 1e-5 * max(1.0, abs(wanted)), (losses, wanted)


def start(problem: Problem, cuts: tuple[str, ...], backend: str, optimizer: Any) -> tuple[fp.TrainStep, fp.State]:
    """A step and its first state."""
    step = fp.train_step(
        problem.loss, optimizer, stages=at(cuts), num_microbatches=MICROBATCHES, backend=backend, trace="functional"
    )
    return step, step.init(problem.params, problem.batch(0), buffers=problem.buffers)


def checks(entry: Entry) -> dict[str, Callable[[], None]]:
    """The columns of the table for a model, each a check that raises."""
    problem = Problem.of(entry)
    found = {
        "forward": lambda: forward(problem, entry.two),
        "names": lambda: names(problem),
        "gradients": lambda: gradients(problem, entry.two),
        "three steps": lambda: three_steps(problem, entry.two),
    }
    if entry.four:
        found["4 stages"] = lambda: gradients(problem, entry.four)
    if entry.inside:
        found["inside a block"] = lambda: gradients(problem, entry.inside)
    return found
