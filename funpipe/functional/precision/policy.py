"""`Precision`: in which dtype parameters are kept, what is computed, gradients are added and results are given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import optree
import torch
from torch import Tensor

from funpipe._errors import FunpipeTypeError, LossError
from funpipe._typing import TensorType, Tree
from funpipe.functional.loss import LossOut
from funpipe.functional.precision.scale import DynamicScale

Keep = Mapping[str, torch.dtype] | Callable[[str], torch.dtype | None]
"""For some leaves a dtype of their own: by a part of their name, or by a function of it."""


@dataclass(frozen=True)
class Precision:
    """The dtypes of a step. Only floating-point leaves are meant: integers, booleans and complex numbers stay.

    Args:
        params: in which parameters are kept and updated, with the optimizer's slots; None: as they are given.
        compute: in which the loss function gets parameters, and the batch; None: as they are kept, or given.
        reduce: in which gradients are accumulated over the microbatches, and summed over the replicas; None: as
            parameters are kept.
        output: of the loss and of what is reported; None: as the loss function returns them.
        loss_scale: what the loss is multiplied by before the backward. `"dynamic"` is `DynamicScale()`; a number never
            changes. Either way a step with a gradient that is not finite is skipped.
        keep: leaves, of parameters or batch, that the loss function gets in another dtype: a dict from a part of their
            names (`{"norm": torch.float32}`), or a function that gives a dtype or None.

    Raises:
        FunpipeTypeError: a dtype is not floating-point, or `loss_scale` is no scale.

    Example:
        >>> policy = Precision(compute=torch.bfloat16, keep={"norm": torch.float32})
        >>> policy.computed("layers.0.weight", torch.float32), policy.computed("norm.weight", torch.float32)
        (torch.bfloat16, torch.float32)

    Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018.
    """

    params: torch.dtype | None = torch.float32
    compute: torch.dtype | None = torch.bfloat16
    reduce: torch.dtype | None = torch.float32
    output: torch.dtype | None = torch.float32
    loss_scale: DynamicScale | float | Literal["dynamic"] | None = None
    keep: Keep | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        for name in ("params", "compute", "reduce", "output"):
            _check_dtype(name, getattr(self, name))
        _scale_of(self.loss_scale)
        if isinstance(self.keep, Mapping):
            for name, dtype in self.keep.items():
                _check_dtype(f"keep[{name!r}]", dtype)
        elif self.keep is not None and not callable(self.keep):
            raise FunpipeTypeError(
                f"keep is {self.keep!r}; pass a dict from a part of a leaf's name to a dtype, such as "
                '{"norm": torch.float32}, or a function of the name.'
            )

    @property
    def scale(self) -> DynamicScale | None:
        """What the loss is multiplied by; a number is a scale that never changes."""
        return _scale_of(self.loss_scale)

    def kept(self, dtype: torch.dtype) -> torch.dtype:
        """In which dtype a parameter of some dtype is kept."""
        return self.params if self.params is not None and dtype.is_floating_point else dtype

    def computed(self, name: str, dtype: torch.dtype) -> torch.dtype:
        """In which dtype the loss function gets a leaf.

        Args:
            name: of a leaf of the parameters or of the batch.
            dtype: that it is kept or given in.
        """
        if not dtype.is_floating_point:
            return dtype
        return self._kept_apart(name) or self.compute or dtype

    def reduced(self, dtype: torch.dtype) -> torch.dtype:
        """In which dtype the gradients of a parameter that is kept in some dtype are added."""
        return self.reduce or dtype

    def _kept_apart(self, name: str) -> torch.dtype | None:
        if isinstance(self.keep, Mapping):
            return next((dtype for part, dtype in self.keep.items() if part in name), None)
        return self.keep(name) if self.keep is not None else None

    def kept_types(self, types: Mapping[str, TensorType]) -> dict[str, TensorType]:
        """The types of parameters as they are kept."""
        return {n: replace(kind, dtype=self.kept(kind.dtype)) for n, kind in types.items()}

    def computed_types(self, types: Mapping[str, TensorType]) -> dict[str, TensorType]:
        """The types of parameters, by name, as the loss function gets them."""
        return {n: replace(kind, dtype=self.computed(n, kind.dtype)) for n, kind in types.items()}

    def kept_shapes(self, params: Tree) -> Tree:
        """Parameters on the meta device, in the dtypes in which they are kept."""
        return optree.tree_map(lambda leaf: _shape(leaf, self.kept) if isinstance(leaf, Tensor) else leaf, params)

    def computed_batch(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch, by name, as the loss function gets it."""
        return {n: leaf.to(self.computed(n, leaf.dtype)) for n, leaf in batch.items()}

    def results(self, out: LossOut) -> LossOut:
        """What a loss function returned, in the output's dtype; weights and buffers stay.

        Raises:
            LossError: a value is called as what a step with a loss scale reports.
        """
        own = [name for name in ("loss_scale", "skipped") if name in out.aux] if self.scale else []
        if own:
            raise LossError(f"aux has the key {own[0]!r}, which a step with a loss scale reports; use another name.")
        if self.output is None:
            return out
        aux = {n: replace(reduced, value=_to_output(reduced.value, self.output)) for n, reduced in out.aux.items()}
        return replace(out, loss_sum=_to_output(out.loss_sum, self.output), aux=aux)


def resolve_precision(precision: "Precision | str | None") -> Precision | None:
    """A policy from its name.

    Args:
        precision: a policy, the name of a preset, or None.

    Returns:
        The policy; None for None.

    Raises:
        FunpipeTypeError: there is no such preset.

    Example:
        >>> resolve_precision("bf16").compute
        torch.bfloat16
    """
    from funpipe.functional.precision import presets

    if precision is None or isinstance(precision, Precision):
        return precision
    known: dict[Any, Precision] = {n: v for n, v in vars(presets).items() if isinstance(v, Precision)}
    if not isinstance(precision, str) or precision not in known:
        raise FunpipeTypeError(
            f"precision is {precision!r}; use one of {', '.join(map(repr, known))}, or fp.Precision(compute=...)."
        )
    return known[precision]


def _shape(leaf: Tensor, to: Callable[[torch.dtype], torch.dtype]) -> Tensor:
    return torch.empty_like(leaf, dtype=to(leaf.dtype), device="meta").requires_grad_(leaf.requires_grad)


def _to_output(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def _check_dtype(name: str, dtype: object) -> None:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        meant = getattr(torch, dtype, None) if isinstance(dtype, str) else None
        instead = meant if isinstance(meant, torch.dtype) and meant.is_floating_point else torch.float32
        raise FunpipeTypeError(f"{name} is {dtype!r}; pass a floating-point dtype, such as {name}={instead}.")


def _scale_of(given: object) -> DynamicScale | None:
    if given is None or isinstance(given, DynamicScale):
        return given
    if given == "dynamic":
        return DynamicScale()
    if isinstance(given, int | float) and not isinstance(given, bool):
        return DynamicScale(init=float(given), factor=1.0, window=1)
    raise FunpipeTypeError(
        f'loss_scale is {given!r}; pass "dynamic", fp.DynamicScale(init=...), a positive number, or None.'
    )
