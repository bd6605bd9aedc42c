"""The inputs of a stage: what this rank gives it, and what comes from other stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from funpipe.interop.pipelining.engine.given import Given
from funpipe.interop.pipelining.engine.skeleton import Skeleton, apart
from funpipe.interop.pipelining.errors import PipeValueError
from funpipe.interop.pipelining.wiring import Argument

Tensors = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Own:
    """What a rank gives to one of its stages.

    Args:
        args: for each of the stage's positional inputs that is given here its tree without tensors, by position.
        kwargs, target, loss_kwargs: the same.
        passed: arguments of the model that only later stages take, by their index.
        tensors: of each microbatch, by name.
    """

    args: dict[int, Skeleton]
    kwargs: Skeleton
    target: Skeleton | None
    loss_kwargs: Skeleton
    passed: dict[int | str, Skeleton] = field(default_factory=dict)
    tensors: tuple[Tensors, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal where programs for one fit the other."""
        trees = [*self.args.values(), self.kwargs, self.loss_kwargs, *self.passed.values()]
        kinds = [(n, t.shape, t.dtype, t.requires_grad) for n, t in self.tensors[0].items()]
        return (*[tree.key for tree in trees], self.target and self.target.key, *kinds)


def own(stage: int, last: bool, given: Given, wiring: Sequence[Argument] | None, later: Sequence[Argument] = ()) -> Own:
    """Takes the arguments of a stage out of what was given to its rank.

    Args:
        stage: its index.
        last: whether it is the last one, which has the targets.
        given: to the rank.
        wiring: of the stage's positional inputs; None: those of a stage that takes what the one before it returns.
        later: arguments of the model that later stages take, and this one, the first, passes on.

    Raises:
        PipeValueError: an argument is missing, or the microbatches differ in more than values.
    """
    found = [_of_one(stage, last, given, i, wiring, later) for i in range(len(given.args))]
    first = found[0]
    for i, (one, _) in enumerate(found):
        odd = one.key_of(found[i][1]) != first[0].key_of(first[1])
        if odd:
            raise PipeValueError(
                f"microbatch {i} of stage {stage} differs from microbatch 0 in more than values: all microbatches of a "
                "step must have the same structure, shapes and dtypes. Pass a batch that divides evenly, or pad it."
            )
    return first[0].with_tensors(tuple(tensors for _, tensors in found))


@dataclass(frozen=True, eq=False)
class _One(Own):
    """Of one microbatch."""

    def key_of(self, tensors: Tensors) -> tuple[Any, ...]:
        return self.with_tensors((tensors,)).key

    def with_tensors(self, tensors: tuple[Tensors, ...]) -> Own:
        return Own(self.args, self.kwargs, self.target, self.loss_kwargs, self.passed, tensors)


def _of_one(
    stage: int, last: bool, given: Given, i: int, wiring: Sequence[Argument] | None, later: Sequence[Argument]
) -> tuple[_One, Tensors]:
    args, kwargs = given.args[i], dict(given.kwargs[i])
    tensors: Tensors = {}

    def take(tree: Any, prefix: str) -> Skeleton:
        skeleton, found = apart(tree, prefix)
        tensors.update(found)
        return skeleton

    positional = _positional(stage, args, kwargs, wiring)
    passed = {a.index: _argument(a, args, kwargs, stage) for a in later}
    if wiring is not None:  # a traced stage takes by position what it takes
        kwargs = {}
    made = _One(
        {k: take(value, f"arg.{k}") for k, value in positional.items()},
        take(kwargs, "kwarg"),
        take(given.targets[i], "target") if last and given.targets is not None else None,
        take(dict(given.loss_kwargs) if last else {}, "loss_kwarg"),
        {index: take(value, f"pass.{index}") for index, value in passed.items()},
    )
    return made, tensors


def _positional(
    stage: int, args: tuple[Any, ...], kwargs: Mapping[str, Any], wiring: Sequence[Argument] | None
) -> dict[int, Any]:
    """The positional inputs that are given here: all of a first stage; of a later one those passed by keyword."""
    if wiring is None:
        return dict(enumerate(args)) if stage == 0 else {}
    mine = [(k, a) for k, a in enumerate(wiring) if a.stage is None]
    return {k: _argument(a, args, kwargs, stage) for k, a in mine if stage == 0 or kwargs.keys() & set(a.ways)}


def _argument(a: Argument, args: tuple[Any, ...], kwargs: Mapping[str, Any], stage: int) -> Any:
    given: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
    found = [given[way] for way in a.ways if way in given]
    if found:
        return found[0]
    what = f"the keyword argument {a.index!r}" if isinstance(a.index, str) else f"positional argument {a.index}"
    raise PipeValueError(
        f"stage {stage} was traced with {what}, and it is not among the {len(args)} positional and "
        f"{len(kwargs)} keyword arguments of this step: pass the arguments of the example to the first rank."
    )
