"""The loss that a model returns, as a pure function."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

import funpipe as fp
from funpipe.functional import PureModule
from funpipe.interop.transformers.errors import ModelError
from funpipe.interop.transformers.token_weights import CountingLabels

Named = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class ModelLoss:
    """`loss_fn(params, batch, *, buffers)` of a model; made by `loss_of`.

    Args:
        apply: the model as a pure function.
        outputs: what else of its outputs is reported, by name.
    """

    apply: PureModule
    outputs: tuple[str, ...] = ()

    def __call__(self, params: Mapping[str, Tensor], batch: Mapping[str, Any], *, buffers: Named) -> fp.Out:
        """Calls the model with a batch of keyword arguments.

        Raises:
            ModelError: it returns no loss, or not what is to be reported.
        """
        with CountingLabels() as counting:
            out, new = self.apply(params, buffers, **_without_caches(self.apply.module, batch))
        loss = _named(out, "loss")
        if not isinstance(loss, Tensor):
            raise ModelError(_no_loss_text(self.apply.module, batch))
        mean = counting.of(loss)
        weighted = loss if mean is None else fp.Weighted(mean.sum, mean.count)
        return fp.Out(weighted, aux={name: fp.cat(self._output(out, name)) for name in self.outputs}, buffers=new)

    def _output(self, out: Any, name: str) -> Tensor:
        found = _named(out, name)
        if isinstance(found, Tensor):
            return found.detach()
        known = [key for key in getattr(out, "keys", list)() if isinstance(_named(out, key), Tensor)]
        raise ModelError(
            f"{type(self.apply.module).__name__} returns no tensor {name!r}; outputs may be of {sorted(known)}."
        )


def loss_of(
    model: nn.Module, outputs: Sequence[str] = ()
) -> tuple[Callable[..., fp.Out], dict[str, Tensor], dict[str, Tensor]]:
    """The loss that a model itself computes, as a loss function for `fp.train_step`, with what it is a function of.

    The model is called with the batch, a dict of its keyword arguments with labels; caches of keys and values are off
    unless the batch says otherwise. A model in training mode draws its dropout from `fp.train_step(key=)`.

    Where the loss is a mean over the labels that are not left out (-100 in transformers), it becomes
    `fp.Weighted(sum, count)`: microbatches with more such labels weigh more, and the loss of a step is that of one call
    with the whole batch. A loss that is anything else, such as a sum of several means, is averaged over microbatches.

    Args:
        model: a model whose output has a field or a key `loss`; on any device, `meta` included.
        outputs: other fields of its output to report, such as `"logits"`; joined over microbatches along dimension 0.

    Returns:
        `(loss_fn, params, buffers)`: `loss_fn(params, batch, *, buffers)`, and the model's parameters and buffers, as
        `fp.functionalize` gives them.

    Raises:
        ModelError: when it is called: the model returns no loss, or not what is to be reported.

    Example:
        >>> import torch
        >>> class Model(nn.Linear):
        ...     def forward(self, x, labels):
        ...         logits = super().forward(x)
        ...         return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
        >>> loss_fn, params, buffers = loss_of(Model(3, 2))
        >>> batch = {"x": torch.ones(4, 3), "labels": torch.tensor([0, 1, -100, 1])}
        >>> loss_fn(params, batch, buffers=buffers).loss.weight
        tensor(3)
    """
    apply, params, buffers = fp.functionalize(model)
    return ModelLoss(apply, tuple(outputs)), params, buffers


def _named(out: Any, name: str) -> Any:
    """A field or a key of what a model returns; None: there is none."""
    return out.get(name) if isinstance(out, Mapping) else getattr(out, name, None)


def _without_caches(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a model, which keeps nothing for later calls."""
    if not isinstance(batch, Mapping):
        raise ModelError(
            f"the batch is of type {type(batch).__name__}; pass a dict of the model's keyword arguments, with labels."
        )
    takes = "use_cache" in inspect.signature(model.forward).parameters
    return {**({"use_cache": False} if takes else {}), **batch}


def _no_loss_text(model: nn.Module, batch: Mapping[str, Any]) -> str:
    known = inspect.signature(model.forward).parameters
    labels = [name for name in known if "label" in name or "loss" in name or name.endswith("_positions")]
    missing = [name for name in labels if name not in batch]
    if missing:
        remedy = f"pass {' or '.join(map(repr, missing))} in the batch"
    else:
        remedy = "compute one of its outputs, in a loss function of yours that calls fp.functionalize(model)[0]"
    return f"{type(model).__name__} returned no loss for a batch of {sorted(batch)}; {remedy}."
