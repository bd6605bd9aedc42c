"""The function that is traced: the loss of one microbatch and, after a border, its gradients."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from funpipe._errors import TraceError
from funpipe._typing import Tree
from funpipe.functional.fixed import unfixed
from funpipe.functional.loss import LossOut
from funpipe.functional.precision import Precision
from funpipe.functional.signature import call_loss, keywords_of
from funpipe.functional.tree import named_leaves, unflatten_named
from funpipe.tracing.random.draws import microbatch_key
from funpipe.tracing.where import noting_where

_NOTHING_TO_TRAIN = (
    "there is nothing to differentiate: params have no floating-point leaf that is trained. Pass at least one, or "
    "trace with differentiate=False."
)
_NO_GRADIENTS = (
    "the loss does not depend on any parameter that is trained, so there are no gradients. Compute it from params, "
    "without detach() or torch.no_grad(), or trace with differentiate=False."
)


@torch.library.custom_op("funpipe::forward_end", mutates_args=())
def forward_end(loss: Tensor) -> Tensor:
    """The border between forward and backward in a traced graph; never part of a `Traced`."""
    return loss.clone()


@forward_end.register_fake
def _(loss: Tensor) -> Tensor:
    return torch.empty_like(loss)


@dataclass
class Joint:
    """Calls the loss function and differentiates it; remembers the names of what it returned.

    Args:
        loss_fn: the user's loss function.
        specs: the tree structure of (params, buffers, batch), each as `named_leaves` gave it.
        names: the leaf names of the same three.
        trainable: the parameters to differentiate; empty for evaluation.
        takes_buffers: whether there are buffers to pass on.
        trains: whether there must be gradients, and buffers that the function takes must come back.
        precision: in which dtype the function gets the batch, and results are given.
        device: the type of the device that keys are on.
    """

    loss_fn: Callable[..., Any]
    specs: tuple[Any, Any, Any]
    names: tuple[list[str], list[str], list[str]]
    trainable: list[str]
    takes_buffers: bool = False
    trains: bool = True
    outputs: list[str] = field(default_factory=list)
    reducers: dict[str, str] = field(default_factory=dict)
    differentiated: list[str] = field(default_factory=list)
    modules: tuple[str, ...] = ()
    what: str = "the loss function"
    precision: Precision | None = None
    device: str = "cpu"

    def __call__(self, *given: list[Tensor]) -> list[Tensor]:
        leaves = self._leaves(given[0])
        with noting_where() as paths:
            out = self._forward(leaves, *given[1:3])
        self.modules = tuple(paths.called)
        results = self._results(out)
        results[0] = forward_end(results[0])
        return results + self._gradients(out.loss_sum, leaves, given[-1][0] if self.scaled else None)

    def forward(self, *given: list[Tensor]) -> list[Tensor]:
        """The outputs of the loss function alone; nothing is noted of where they come from."""
        return self._results(self._forward(self._leaves(given[0]), *given[1:3]))

    def _leaves(self, params: list[Tensor]) -> dict[str, Tensor]:
        return {
            name: leaf.detach().requires_grad_(name in self.trainable)
            for name, leaf in zip(self.names[0], params, strict=True)
        }

    def _forward(self, leaves: dict[str, Tensor], buffers: list[Tensor], batch: list[Tensor]) -> LossOut:
        trees = (
            unflatten_named(self.specs[0], leaves),
            unflatten_named(self.specs[1], dict(zip(self.names[1], buffers, strict=True))),
            unflatten_named(self.specs[2], self._computed(dict(zip(self.names[2], batch, strict=True)))),
        )
        with torch.set_grad_enabled(bool(self.trainable)):
            buffers_in = trees[1] if self.takes_buffers else None
            out = call_loss(self.loss_fn, trees[0], unfixed(trees[2]), buffers_in, self._key(), trains=self.trains)
            return self.precision.results(out) if self.precision else out

    def _key(self) -> Tensor | None:
        """The key of the microbatch, if the function names it."""
        return microbatch_key(self.device) if "key" in keywords_of(self.loss_fn) else None

    @property
    def scaled(self) -> bool:
        """Whether the last tensor that is given is what the loss is multiplied by before the backward."""
        return self.trains and self.precision is not None and self.precision.scale is not None

    def _computed(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.precision.computed_batch(batch) if self.precision else batch

    def _results(self, out: LossOut) -> list[Tensor]:
        """The outputs of the forward, the loss first; their names are kept in the same order."""
        results = {"loss": out.loss_sum}
        if out.weight is not None:
            results["weight"] = out.weight
        for name, reduced in out.aux.items():
            results[f"aux.{name}"] = reduced.value
            self.reducers[name] = reduced.kind
        if out.buffers is not None:
            # A checkpoint writes to them again in the backward; that is no part of what the function returned.
            results |= {f"buffer.{name}": leaf.clone() for name, leaf in named_leaves(out.buffers)[0].items()}
        self.outputs = list(results)
        return [value.detach() for value in results.values()]

    def _gradients(self, loss: Tensor, leaves: dict[str, Tensor], scale: Tensor | None) -> list[Tensor]:
        if not self.trains:
            return []
        if not self.trainable:
            raise TraceError(_NOTHING_TO_TRAIN)
        wanted = [leaves[name] for name in self.trainable]
        seed = None if scale is None else scale.to(loss.dtype)
        gradients = torch.autograd.grad(loss, wanted, seed, allow_unused=True) if loss.requires_grad else ()
        used = [(n, g) for n, g in zip(self.trainable, gradients, strict=False) if g is not None]
        if not used:
            raise TraceError(_NO_GRADIENTS)
        self.differentiated = [n for n, _ in used]
        return [g for _, g in used]


def flat_tree(tree: Tree) -> tuple[Any, list[str], list[Tensor]]:
    """A pytree as its structure, the names of its leaves and the leaves, in tree order."""
    named, spec = named_leaves(tree)
    return spec, list(named), list(named.values())
