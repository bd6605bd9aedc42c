"""`explain`: how a model is traced, what broke where, and what its stages are; nothing is compiled."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from funpipe._api.model_loss import ModelLoss, NoLoss, model_loss
from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe._typing import Tree
from funpipe.display.explaining import amount, count, crossing_table, some, stage_table
from funpipe.functional.precision import Precision, resolve_precision
from funpipe.functional.tree import named_leaves
from funpipe.stages import Cutter, partition, resolve
from funpipe.stages.summary import Crossing, StageSummary, crossings, summaries
from funpipe.tracing import Traced, trace
from funpipe.tracing.ways import Attempt, Way


@dataclass(frozen=True)
class Explanation:
    """What `explain` found; prints as text.

    Args:
        what: the name of the model or of the loss function.
        way: how it was traced; None: it was not.
        error: why not; also why it cannot be cut as asked.
        attempts: the ways that were tried, where the first one did not work.
        operators: of the forward and of the backward.
        parameters: how many there are, their numbers, and their bytes.
        guards: the values that were read in Python, for which alone the trace holds.
        opaque: the modules that are called and not traced.
        random: operators that draw random numbers, with the line that calls them.
        updated: the buffers that a step changes.
        tied: for each further name of a parameter the name that its leaf goes by.
        unused: the parameters that the loss does not depend on.
        frozen: the parameters that are not trained.
        stages: in figures.
        crossings: what crosses their cuts.
    """

    what: str
    way: str | None = None
    error: str | None = None
    attempts: tuple[Attempt, ...] = ()
    operators: tuple[int, int] = (0, 0)
    parameters: tuple[int, int, int] = (0, 0, 0)
    guards: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    tied: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    stages: tuple[StageSummary, ...] = ()
    crossings: tuple[Crossing, ...] = ()

    def __str__(self) -> str:
        return self.as_text()

    __repr__ = __str__

    def as_text(self) -> str:
        """The whole, in lines."""
        parts = [self._head(), *self._facts()]
        if self.error:
            parts += ["", self.error]
        if self.stages:
            parts += ["", stage_table(self.stages)]
        for title, gradient in (("forward", False), ("gradients", True)):
            chosen = [c for c in self.crossings if c.gradient == gradient]
            if chosen:
                total = amount(sum(c.nbytes for c in chosen))
                parts += ["", f"crossing, {title}: {total} a microbatch", crossing_table(chosen)]
        return "\n".join(parts)

    def _head(self) -> str:
        if self.way is None:
            return f"{self.what}: cannot be traced"
        forward, backward = self.operators
        return f"{self.what}: traced ({self.way}), {forward} operators forward, {backward} backward"

    def _facts(self) -> list[str]:
        leaves, numbers, nbytes = self.parameters
        facts = [("parameters", f"{leaves} leaves, {count(numbers)} numbers, {amount(nbytes)}")] if leaves else []
        facts += [("tried", attempt.as_text() + _at(attempt)) for attempt in self.attempts]
        facts += [("opaque", path or "the model") for path in self.opaque]
        facts += [("guard", guard) for guard in self.guards]
        facts += [("random", draw) for draw in self.random]
        facts += [("tied", f"{name} is {owner}") for name, owner in self.tied]
        lists = (("buffers updated", self.updated), ("unused", self.unused), ("frozen", self.frozen))
        facts += [(name, some(names)) for name, names in lists if names]
        return [f"  {name:16}{text}" for name, text in facts]


def _at(attempt: Attempt) -> str:
    """The user's line of a way that failed, unless the text names it already."""
    known = attempt.source is None or attempt.source.split(": ")[0] in (attempt.why or "")
    return "" if known else f" [{attempt.source}]"


def explain(
    model: nn.Module | Callable[..., Any],
    *given: Any,
    buffers: Tree = None,
    stages: Cutter | int | None = None,
    trace: Way = "auto",
    precision: Precision | str | None = None,
) -> Explanation:
    """Says how a model is traced and cut: what was tried, what broke where, what crosses each cut and how large it is.

    A model that cannot be traced is no error here: the explanation says why. Nothing is compiled.

    Args:
        model: a module, or a loss function as `train_step` takes it.
        *given: for a module the batch of one microbatch: a dict is passed as keyword arguments, a tuple or list as
            positional ones, a tensor as the only one. Where the module's output has a `loss`, that is differentiated,
            else the forward alone is traced. For a loss function: params, batch.
        buffers: of a loss function that takes them.
        stages: how to cut: a cutter, or a number of balanced stages; None: at the model's marks, if it has any.
        trace: the ways to trace that may be tried; see `train_step`.
        precision: as for `train_step`.

    Returns:
        The explanation; `print` it.

    Raises:
        FunpipeTypeError: arguments that do not fit a module or a loss function, or `stages` that are none.

    Example:
        >>> import torch, funpipe as fp
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        >>> found = fp.explain(model, torch.ones(8, 3), stages=fp.stages.split_at({"2": "beginning"}))
        >>> found.way, [stage.modules for stage in found.stages], [c.nbytes for c in found.crossings]
        ('functional', [('0', '1'), ('2',)], [128])
    """
    named = _named(model, given, buffers)
    found = Explanation(named.what, parameters=_parameters(named.params), tied=tuple(named.aliases.items()))
    try:
        graph = _traced(named, trace, resolve_precision(precision))
    except FunpipeError as error:
        return replace(found, error=f"{type(error).__name__}: {error}")
    return _cut(_described(found, graph), graph, stages)


def _named(model: Any, given: tuple[Any, ...], buffers: Tree) -> ModelLoss:
    if isinstance(model, nn.Module):
        if len(given) != 1 or buffers is not None:
            raise FunpipeTypeError(
                f"explain got {len(given)} arguments behind a module: pass one, the batch (a dict of keyword "
                "arguments, a tuple of positional ones, or a tensor), and no buffers."
            )
        return model_loss(model, given[0])
    if not callable(model) or len(given) != 2:
        raise FunpipeTypeError(
            f"explain got a {type(model).__name__} and {len(given)} arguments: pass explain(module, batch) or "
            "explain(loss_fn, params, batch, buffers=...)."
        )
    what = getattr(model, "__name__", type(model).__name__)
    return ModelLoss(what, model, *given, buffers)


def _traced(named: ModelLoss, way: Way, precision: Precision | None) -> Traced:
    given = {"buffers": named.buffers, "precision": precision, "way": way}
    try:
        return trace(named.loss_fn, named.params, named.batch, **given)
    except NoLoss:
        assert named.forward is not None
        return trace(named.forward, named.params, named.batch, differentiate=False, **given)


def _parameters(params: Tree) -> tuple[int, int, int]:
    try:
        leaves = list(named_leaves(params)[0].values())
    except FunpipeError:  # the trace says why
        return 0, 0, 0
    return len(leaves), sum(t.numel() for t in leaves), sum(t.numel() * t.element_size() for t in leaves)


def _described(found: Explanation, traced: Traced) -> Explanation:
    unused = [n for n in traced.params if n not in traced.gradients and n not in traced.frozen]
    changed = [n for n, node in traced.outputs.items() if n.startswith("buffer.") and node.op != "placeholder"]
    return replace(
        found,
        way=traced.way,
        attempts=traced.attempts,
        operators=(len(traced.forward), len(traced.backward)),
        guards=tuple(map(str, traced.guards)),
        opaque=traced.opaque,
        random=_draws(traced),
        updated=tuple(n.removeprefix("buffer.") for n in changed),
        unused=tuple(unused) if traced.backward else (),
        frozen=tuple(n for n in traced.params if n in traced.frozen) if traced.backward else (),
    )


def _draws(traced: Traced) -> tuple[str, ...]:
    """Where random numbers are drawn: the first operator that reads each key."""
    readers = [next(iter(node.users), node) for (kind, _), node in traced.leaves.items() if kind == "random"]
    return tuple(dict.fromkeys(" in ".join(filter(None, (n.meta.get("source"), n.meta.get("path")))) for n in readers))


def _cut(found: Explanation, traced: Traced, stages: Cutter | int | None) -> Explanation:
    if stages is None and not traced.marks:
        stages = 1
    cutter = resolve(stages, traced)
    try:
        parts = partition(traced, cutter(traced))
    except FunpipeError as error:
        return replace(found, error=f"{type(error).__name__}: {error}")
    return replace(found, stages=summaries(traced, parts), crossings=crossings(traced, parts))
