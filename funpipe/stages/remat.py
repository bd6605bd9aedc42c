"""Rematerialisation: a stage's backward computes again what its forward need not keep until then."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.stages.choices import Choice, Values
from funpipe.stages.choose_saved import cheapest
from funpipe.stages.costs import Costs, Roofline
from funpipe.stages.partition import crossing
from funpipe.stages.recompute import recompute
from funpipe.stages.saved import nodes_of, values_of
from funpipe.stages.stage import Stage


@final
@dataclass(frozen=True)
class Budget:
    """A rematerialisation that saves at most so many bytes, and of such choices computes the cheapest again.

    Args:
        nbytes: the most bytes of one microbatch that a stage may hold from its forward to its backward, as
            `saved_bytes` counts them.
        costs: the time of a node; `Roofline()` by default.

    Example:
        >>> import torch, funpipe as fp
        >>> def loss(p, x):
        ...     return torch.tanh(torch.tanh(x @ p["a"]) @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> stages = fp.stages.partition(traced, ())
        >>> (stage,) = fp.stages.rematerialise(stages, fp.stages.Budget(50))
        >>> stage.B.inputs, fp.stages.saved_bytes(stage)
        (('param.b', 'batch.', 'tanh', 'sum_1'), 48)
    """

    nbytes: int
    costs: Costs = field(default_factory=Roofline)

    def __post_init__(self) -> None:
        if not isinstance(self.nbytes, int) or isinstance(self.nbytes, bool):
            raise FunpipeTypeError(f"a budget is {self.nbytes!r}; pass the number of bytes as an int.")
        if self.nbytes < 0:
            raise StageError(f"a budget is {self.nbytes} bytes; pass an int of at least 0.")


Remat = Literal["none", "full"] | int | Budget
"""What is computed again: nothing; all that a stage can compute from what crosses into it; what a budget asks for."""


def rematerialise(stages: tuple[Stage, ...], remat: Remat | Sequence[Remat]) -> tuple[Stage, ...]:
    """Lets backwards compute values again instead of holding them since the forward.

    The backward runs the forward's own operators on the same inputs, so it computes the same bits. Operators that write
    to their arguments or draw random numbers are never run again: what they make is saved. What another stage reads and
    what the loss function returns stays an output of the forward, whoever computes it again. Views are taken anew in
    any case. Within the backward a value is computed right before it is first read.

    With a budget, what a stage saves is never over it, and no other choice within it is cheaper by more than about a
    hundredth. In a large stage the search for that ends early; then the cost is at most that of the next smaller
    budget for which the best choice is known, a corner of the convex hull of all choices.

    Args:
        stages: a partition, as `partition` gives it.
        remat: for all stages, or one for each: `"none"`; `"full"` saves nothing but what crosses into the stage;
            `Budget(nbytes)` or an int, the bytes of one microbatch that the stage may save.

    Returns:
        The stages; those with a backward have the same forward inputs and backward outputs, and another split between.

    Raises:
        FunpipeTypeError: `remat` is something else.
        StageError: it is for another number of stages, or a budget is too small; the smallest is named.

    Example:
        >>> import torch, funpipe as fp
        >>> def loss(p, x):
        ...     return torch.tanh(torch.tanh(x @ p["a"]) @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> stages = fp.stages.partition(traced, ())
        >>> (stage,) = fp.stages.rematerialise(stages, "full")
        >>> stages[0].F.outputs, stage.F.outputs
        (('tanh', 'tanh_1', 'sum_1'), ('sum_1',))
    """
    policies = _for_each(remat, len(stages))
    read = frozenset(crossing(stages))
    return tuple(_rematerialised(stage, policy, read) for stage, policy in zip(stages, policies, strict=True))


def check_remat(remat: Any) -> None:
    """Raises unless a value, or each in a sequence, says what is computed again."""
    for policy in remat if _is_sequence(remat) else (remat,):
        if isinstance(policy, int) and not isinstance(policy, bool):
            Budget(policy)
        elif not isinstance(policy, Budget) and policy not in ("none", "full"):
            raise FunpipeTypeError(
                f"remat is {policy!r}; use 'none', 'full', fp.stages.Budget(nbytes) or a number of bytes, or a list "
                "with one of them for each stage."
            )


def _for_each(remat: Any, count: int) -> list[Remat]:
    check_remat(remat)
    policies = list(remat) if _is_sequence(remat) else [remat] * count
    if len(policies) != count:
        raise StageError(
            f"remat has {len(policies)} entries, but the model is cut into {count} stages: give one for each stage, or "
            "a single one for all."
        )
    return policies


def _is_sequence(remat: Any) -> bool:
    return isinstance(remat, Sequence) and not isinstance(remat, str)


def _rematerialised(stage: Stage, policy: Remat, others: frozenset[str]) -> Stage:
    if stage.B is None or policy == "none":
        return stage
    budget = Budget(policy) if isinstance(policy, int) else policy
    values = values_of(stage, budget.costs if isinstance(budget, Budget) else Roofline())
    chosen = _within(values, budget.nbytes, stage) if isinstance(budget, Budget) else values.none_saved
    if chosen == values.all_saved:
        return stage
    nodes = nodes_of(stage)
    return recompute(stage, [nodes[i] for i in chosen.saved], [nodes[i] for i in chosen.again], others)


def _within(values: Values, budget: int, stage: Stage) -> Choice:
    chosen = cheapest(values, budget)
    if chosen is None:
        least = values.smallest.nbytes
        raise StageError(
            f"stage {stage.index} may save {budget} bytes of a microbatch, but whatever it computes again, it needs "
            f"{least}: give it a budget of at least {least}, or make its microbatches or the stage smaller."
        )
    return chosen
