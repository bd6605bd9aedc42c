"""Traces a training step: everything it reads and changes becomes an input and an output of one graph."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from funpipe.interop.pipelining.engine.hooks import has_hooks
from funpipe.interop.pipelining.trees import flatten
from funpipe.interop.spmd.engine.arguments import Hole
from funpipe.interop.spmd.engine.leaves import PARAMS, Leaf
from funpipe.interop.spmd.engine.stand_ins import StandIns
from funpipe.interop.spmd.engine.step import Step, TracedStep
from funpipe.interop.spmd.errors import SpmdValueError
from funpipe.tracing import imperative_graph


def trace(step: Step) -> TracedStep:
    """Traces one call of a step.

    Args:
        step: what is traced; nothing of it is changed.

    Raises:
        TraceError: it decides something by the value of a tensor, or uses one that it was not given.
        SpmdValueError: it changes hyperparameters of its optimizer, or a parameter has hooks.
        SpmdNotImplementedError: a gradient is sparse.
    """
    _require_no_hooks(step.state)
    run = _Run(step)
    module = imperative_graph(run, [*map(_input, step.state), *step.rates, *step.call.tensors])
    constants = module.meta.pop("constants")
    names = [leaf.name for leaf in step.state]
    names += [f"batch.lr.{i}" for i in range(len(step.rates))]
    names += [f"batch.{i}" for i in range(len(step.call.tensors))]
    module.meta["inputs"] = (*names, *[f"batch.const.{i}" for i in range(len(constants))])
    module.meta["outputs"] = tuple(run.outputs)
    return TracedStep(module, run.returns, constants)


def _require_no_hooks(state: Sequence[Leaf]) -> None:
    for leaf in state:
        if leaf.name.startswith(PARAMS) and has_hooks(leaf.tensor):
            raise SpmdValueError(
                f"{leaf.name.removeprefix(PARAMS)} has hooks, which a compiled step would not call: remove them, and "
                "change gradients in the step, between backward() and optimizer.step()."
            )


def _input(leaf: Leaf) -> Tensor:
    if leaf.name.startswith(PARAMS):
        return nn.Parameter(leaf.local, requires_grad=leaf.tensor.requires_grad)
    return leaf.local


class _Run:
    """The function that is traced: flat tensors in, flat tensors out."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.outputs: list[str] = []
        self.returns: tuple[Any, tuple[Any, ...]] = (None, ())

    def __call__(self, *flat: Tensor) -> list[Tensor]:
        state, count = self.step.state, len(self.step.state)
        tensors = count + len(self.step.rates)
        stand_ins = StandIns.of(self.step, {leaf.name: x for leaf, x in zip(state, flat[:count], strict=True)})
        leaves, structure = flatten(stand_ins.call(flat[count:tensors], flat[tensors:]))
        self.returns = structure, tuple(Hole("tensor") if _is_output(leaf) else leaf for leaf in leaves)
        found = {f"aux.return.{i}": x for i, x in enumerate(filter(_is_output, leaves))} | stand_ins.results()
        self.outputs = list(found)
        return [x.detach() if isinstance(x, Tensor) else x for x in found.values()]


def _is_output(leaf: Any) -> bool:
    """Whether a leaf of what a step returns is another at every call: a tensor, or a number read from one."""
    return isinstance(leaf, Tensor | torch.SymFloat | torch.SymInt | torch.SymBool)
