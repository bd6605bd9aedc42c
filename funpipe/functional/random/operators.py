"""torch's random operators as functions of a key.

One function for each distribution; a table says which operator draws which, and how its arguments are read. An operator
that writes its numbers into a tensor is told by the name: what it would write is returned.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from funpipe.functional.random import draws
from funpipe.functional.random.dropout import scaled

aten = torch.ops.aten


def drawn(func: Any, key: Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What a random operator of torch would draw, with the numbers of a key.

    Args:
        func: an overload of `torch.ops.aten`.
        key: 0-dim int64.
        args, kwargs: the operator's; a generator among them is not used.

    Returns:
        What the operator returns; of one that writes to its first argument, what is to be written there, and of one
        that writes to another, both. NotImplemented for an operator that is in no table.

    Example:
        >>> import funpipe as fp
        >>> drawn(aten.rand.default, fp.random.key(7), ([2],), {})
        tensor([0.9546, 0.7502])
    """
    found = DRAWN.get(func)
    return NotImplemented if found is None else found(key, **_named(func, args, kwargs))


def _named(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """An operator's arguments by name, defaults included, but for a dtype: a schema has that as a number."""
    names = [a.name for a in func._schema.arguments]
    defaulted = (a for a in func._schema.arguments if a.has_default_value() and a.name != "dtype")
    defaults = {a.name: a.default_value for a in defaulted}
    return defaults | dict(zip(names, args, strict=False)) | kwargs


def _floating(dtype: torch.dtype | None) -> torch.dtype:
    return torch.get_default_dtype() if dtype is None else dtype


def _device(device: Any) -> torch.device:
    return torch.get_default_device() if device is None else torch.device(device)


def _like(x: Tensor, dtype: torch.dtype | None, device: Any) -> tuple[list[int], torch.dtype, torch.device]:
    return list(x.shape), x.dtype if dtype is None else dtype, x.device if device is None else torch.device(device)


def _unit(key: Tensor, x: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) for each element of a tensor, in its dtype or, for integers, in float32."""
    return draws.UNIFORM(key, list(x.shape), x.dtype if x.is_floating_point() else torch.float32, x.device)


def _standard(key: Tensor, x: Tensor) -> Tensor:
    return draws.NORMAL(key, list(x.shape), x.dtype, x.device)


def _positive(unit: Tensor) -> Tensor:
    """A standard exponential number of a uniform one: -log of a number in (0, 1]."""
    return -torch.log1p(-unit)


def _rand(key: Tensor, size: Sequence[int], dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
    return draws.UNIFORM(key, size, _floating(dtype), _device(device))


def _randn(key: Tensor, size: Sequence[int], dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
    return draws.NORMAL(key, size, _floating(dtype), _device(device))


def _rand_like(key: Tensor, self: Tensor, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
    return draws.UNIFORM(key, *_like(self, dtype, device))


def _randn_like(key: Tensor, self: Tensor, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
    return draws.NORMAL(key, *_like(self, dtype, device))


def _randint(
    key: Tensor, high: int, size: Sequence[int], low: int = 0, dtype: Any = None, device: Any = None, **_: Any
) -> Tensor:
    return draws.INTEGERS(key, size, low, high, torch.int64 if dtype is None else dtype, _device(device))


def _randint_like(
    key: Tensor, self: Tensor, high: int, low: int = 0, dtype: Any = None, device: Any = None, **_: Any
) -> Tensor:
    shape, kind, where = _like(self, dtype, device)
    return draws.INTEGERS(key, shape, low, high, kind, where)


def _randperm(key: Tensor, n: int, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
    found = draws.PERMUTATION(key, n, _device(device))
    return found if dtype is None else found.to(dtype)


def _native_dropout(key: Tensor, input: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    if train is False or p == 0:
        return input.clone(), torch.ones_like(input, dtype=torch.uint8)
    mask = draws.KEEP(key, list(input.shape), 1.0 - p, input.device)
    return scaled(input, mask, p), mask


def _bernoulli(key: Tensor, self: Tensor, p: float | Tensor | None = None, **_: Any) -> Tensor:
    """Decisions in the dtype of the tensor; without `p` its elements are the probabilities."""
    if isinstance(p, float | int):
        return draws.KEEP(key, list(self.shape), float(p), self.device).to(self.dtype)
    of = self if p is None else p.expand(self.shape)
    return (draws.UNIFORM(key, list(self.shape), torch.float32, self.device) < of).to(self.dtype)


def _uniform(key: Tensor, self: Tensor, to: float = 1.0, **given: Any) -> Tensor:
    low = given["from"]  # a keyword of Python
    return _unit(key, self) * (to - low) + low


def _normal(key: Tensor, self: Tensor, mean: float = 0.0, std: float = 1.0, **_: Any) -> Tensor:
    return _standard(key, self) * std + mean


def _normal_of(key: Tensor, mean: Any, std: Any = 1.0, **_: Any) -> Tensor:
    """Of which the mean, the deviation, or both are tensors."""
    like = mean if isinstance(mean, Tensor) else std
    shape = torch.broadcast_shapes(*(t.shape for t in (mean, std) if isinstance(t, Tensor)))
    return draws.NORMAL(key, list(shape), like.dtype, like.device) * std + mean


def _normal_floats(key: Tensor, mean: float, std: float, size: Sequence[int], **given: Any) -> Tensor:
    return _randn(key, size, given.get("dtype"), given.get("device")) * std + mean


def _exponential(key: Tensor, self: Tensor, lambd: float = 1.0, **_: Any) -> Tensor:
    return _positive(_unit(key, self)) / lambd


def _cauchy(key: Tensor, self: Tensor, median: float = 0.0, sigma: float = 1.0, **_: Any) -> Tensor:
    return median + sigma * torch.tan(torch.pi * (_unit(key, self) - 0.5))


def _log_normal(key: Tensor, self: Tensor, mean: float = 1.0, std: float = 2.0, **_: Any) -> Tensor:
    return torch.exp(_standard(key, self) * std + mean)


def _geometric(key: Tensor, self: Tensor, p: float, **_: Any) -> Tensor:
    found = torch.ceil(_positive(_unit(key, self)) / -torch.log1p(torch.tensor(-p, device=self.device)))
    return found.clamp(min=1).to(self.dtype)


def _random(key: Tensor, self: Tensor, to: int | None = None, **given: Any) -> Tensor:
    low, high = given.get("from") or 0, _end(self.dtype) if to is None else to
    return draws.INTEGERS(key, list(self.shape), low, high, torch.int64, self.device).to(self.dtype)


def _end(dtype: torch.dtype) -> int:
    """One more than the largest integer that `random_` draws for a dtype; of large dtypes 2**31 - 1."""
    if dtype.is_floating_point:
        return min(int(2 / torch.finfo(dtype).eps) + 1, 2**31 - 1)
    return 2 if dtype == torch.bool else min(torch.iinfo(dtype).max + 1, 2**31 - 1)


def _multinomial(key: Tensor, self: Tensor, num_samples: int, replacement: bool = False, **_: Any) -> Tensor:
    """Without replacement: the largest of probability over exponential noise, an exponential race."""
    if not replacement or num_samples == 1:
        noise = _positive(_unit(key, self))
        return torch.topk(self / noise, num_samples, dim=-1).indices
    ends = torch.cumsum(self, -1)
    shape = [*self.shape[:-1], num_samples]
    at = draws.UNIFORM(key, shape, self.dtype, self.device) * ends[..., -1:]
    return torch.searchsorted(ends, at, right=True).clamp(max=self.shape[-1] - 1)


def _rrelu(
    key: Tensor, self: Tensor, lower: float, upper: float, training: bool = False, **_: Any
) -> tuple[Tensor, Tensor]:
    """The result, and the slope of each element, which the backward reads."""
    if not training:
        return torch.nn.functional.leaky_relu(self, (lower + upper) / 2), torch.ones_like(self)
    slope = torch.where(self <= 0, _unit(key, self) * (upper - lower) + lower, torch.ones_like(self))
    return self * slope, slope


DRAWN: dict[Any, Callable[..., Any]] = {
    aten.native_dropout.default: _native_dropout,
    aten.rand.default: _rand,
    aten.rand.generator: _rand,
    aten.randn.default: _randn,
    aten.randn.generator: _randn,
    aten.rand_like.default: _rand_like,
    aten.randn_like.default: _randn_like,
    aten.randint.default: _randint,
    aten.randint.generator: _randint,
    aten.randint.low: _randint,
    aten.randint.low_generator: _randint,
    aten.randint_like.default: _randint_like,
    aten.randint_like.low_dtype: _randint_like,
    aten.randperm.default: _randperm,
    aten.randperm.generator: _randperm,
    aten.bernoulli.default: _bernoulli,
    aten.bernoulli.p: _bernoulli,
    aten.bernoulli.Tensor: _bernoulli,
    aten.bernoulli_.float: _bernoulli,
    aten.bernoulli_.Tensor: _bernoulli,
    aten.uniform.default: _uniform,
    aten.uniform_.default: _uniform,
    aten.normal_.default: _normal,
    aten.normal_functional.default: _normal,
    aten.normal.Tensor_float: _normal_of,
    aten.normal.float_Tensor: _normal_of,
    aten.normal.Tensor_Tensor: _normal_of,
    aten.normal.float_float: _normal_floats,
    aten.exponential.default: _exponential,
    aten.exponential_.default: _exponential,
    aten.cauchy.default: _cauchy,
    aten.cauchy_.default: _cauchy,
    aten.log_normal.default: _log_normal,
    aten.log_normal_.default: _log_normal,
    aten.geometric.default: _geometric,
    aten.geometric_.default: _geometric,
    aten.random.default: _random,
    aten.random.to: _random,
    getattr(aten.random, "from"): _random,
    aten.random_.default: _random,
    aten.random_.to: _random,
    getattr(aten.random_, "from"): _random,
    aten.multinomial.default: _multinomial,
    aten.rrelu_with_noise.default: _rrelu,
    aten.rrelu_with_noise_.default: _rrelu,
    aten.rrelu_with_noise_functional.default: _rrelu,
}
"""For each random operator what it draws."""
