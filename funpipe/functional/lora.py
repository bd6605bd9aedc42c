"""Low-rank adapters (Hu et al., 2021, arXiv 2106.09685) as a transform of the parameter tree: W + (alpha / r) B A."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from funpipe._errors import TreeError
from funpipe._typing import TensorType, Tree
from funpipe.functional import random
from funpipe.functional.deferred.leaf import made, with_gradient
from funpipe.functional.patterns import Patterns, matching
from funpipe.functional.tree import named_leaves, unflatten_named


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters of some matrices of a model; everything else is frozen.

    The tree that is trained is `{"base": params, "lora": {name: {"a": [r, n], "b": [m, r]}}}`, with one entry for each
    matrix `[m, n]`. The model sees `W + (alpha / r) b @ a` in place of `W`; `b` is zero at first, `a` uniform within
    `1 / sqrt(n)`.

    Args:
        rank: r, the inner size of the adapters.
        alpha: how strongly they count; r by default, so that the factor is 1.
        where: the matrices, by name, subtree or pattern; all leaves with two dimensions by default.

    Example:
        >>> import funpipe as fp
        >>> lora = LoRA(rank=2, where="w*")
        >>> params = lora.init({"w1": torch.ones(4, 3), "bias": torch.ones(4)}, key=0)
        >>> {name: tuple(leaf.shape) for name, leaf in params["lora"]["w1"].items()}
        {'a': (2, 3), 'b': (4, 2)}
        >>> loss_fn = lora.loss(lambda p, x: (x @ p["w1"].T + p["bias"]).square().mean())
        >>> step = fp.train_step(loss_fn, fp.optim.sgd(0.1), backend="interpret")
        >>> state = step.init(params, torch.ones(5, 3))
        >>> state, metrics = step(state, torch.ones(5, 3))
        >>> merged = lora.merge(step.gather(state)[0])
        >>> sorted(merged)
        ['bias', 'w1']
    """

    rank: int
    alpha: float | None = None
    where: Patterns = ()

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise TreeError(f"LoRA: the rank is {self.rank}; use 1 or more, such as rank=8.")

    def init(self, params: Tree, key: int | Tensor) -> dict[str, Tree]:
        """The tree to train: the parameters, frozen, and new adapters.

        Args:
            params: of the model; leaves without values (`fp.init`) stay without.
            key: a seed or a key; each adapter is drawn from the name of its matrix.

        Raises:
            TreeError: `where` matches nothing, or a leaf that is no matrix of real numbers.
        """
        named, spec = named_leaves(params, what="params")
        root = random.key(key)
        base = unflatten_named(spec, {name: with_gradient(leaf, False) for name, leaf in named.items()})
        return {"base": base, "lora": {name: self._adapter(root, name, named[name]) for name in self._chosen(named)}}

    def merge(self, params: dict[str, Tree]) -> Tree:
        """The parameters of the model, adapters added.

        Args:
            params: as `init` gave them, or as they were trained.

        Raises:
            TreeError: it is another tree.
        """
        if not isinstance(params, dict) or set(params) != {"base", "lora"}:
            raise TreeError(
                'LoRA: the parameters are not {"base": ..., "lora": ...}; pass what lora.init(params, key) returned, '
                "to the step and to merge."
            )
        named, spec = named_leaves(params["base"], what="params['base']")
        factor = (self.rank if self.alpha is None else self.alpha) / self.rank
        added = {name: pair["b"] @ pair["a"] * factor for name, pair in params["lora"].items()}
        return unflatten_named(spec, {n: made(leaf) + added[n] if n in added else leaf for n, leaf in named.items()})

    def loss(self, loss_fn: Callable[..., Any]) -> Callable[..., Any]:
        """A loss function of the model's parameters as one of the tree to train.

        Args:
            loss_fn: `loss_fn(params, batch, ...)`.
        """

        @wraps(loss_fn)
        def adapted(params: dict[str, Tree], *args: Any, **kwargs: Any) -> Any:
            return loss_fn(self.merge(params), *args, **kwargs)

        return adapted

    def _chosen(self, named: dict[str, Tensor]) -> list[str]:
        if not self.where:
            return [name for name, leaf in named.items() if leaf.ndim == 2 and leaf.is_floating_point()]
        chosen = matching(named, self.where, "LoRA: where")
        for name in chosen:
            if named[name].ndim != 2 or not named[name].is_floating_point():
                raise TreeError(
                    f"LoRA: {name!r} is {TensorType.of(named[name])}, and an adapter is for a matrix of real numbers: "
                    f"leave it out of where={self.where!r}."
                )
        return chosen

    def _adapter(self, root: Tensor, name: str, leaf: Tensor) -> dict[str, Tensor]:
        m, n = leaf.shape
        device = None if leaf.device.type == "meta" else leaf.device
        bound = 1 / math.sqrt(n)
        a = (2 * random.uniform(random.from_name(root, name), (self.rank, n), dtype=leaf.dtype) - 1) * bound
        b = torch.zeros(m, self.rank, dtype=leaf.dtype)
        return {"a": a.to(device).requires_grad_(), "b": b.to(device).requires_grad_()}
