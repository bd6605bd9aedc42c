"""What a call of a module does besides returning something: an operator may do nothing else."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from funpipe import _compat
from funpipe._errors import TraceError


class NotOpaque(TraceError):
    """A module that cannot be one operator; the one around it may.

    Args:
        text: why.
        module: the module.
    """

    def __init__(self, text: str, module: nn.Module) -> None:
        super().__init__(text)
        self.module = module


class Watch:
    """Compares before and after a call.

    Args:
        module: it is called; its buffers may change.
        name: it is called in errors.
        given: the tensors that are passed to it, which it may only read.
        copies: whether values are compared, too: `BatchNorm` and what goes through `.data` write without a trace.
    """

    def __init__(self, module: nn.Module, name: str, given: Sequence[Tensor], copies: bool = False) -> None:
        self.module, self.name = module, name
        self.read = [*given, *module.parameters()]
        self.before = [_Before(t, copies) for t in self.read]
        self.buffers = {n: _Before(b, copies) for n, b in module.named_buffers()}
        self.generator = _generators(self.read)

    def written(self) -> dict[str, Tensor]:
        """The buffers that were written to or replaced, by name, as they are now.

        Raises:
            NotOpaque: something was written to that is only read.
        """
        if any(before.changed(before.tensor) for before in self.before):
            raise NotOpaque(_WRITES.format(self.name), self.module)
        return {n: b for n, b in self.module.named_buffers() if self._changed(n, b)}

    def drew(self) -> bool:
        """Whether a generator of torch has moved on."""
        now = _generators(self.read)
        return any(not torch.equal(a, b) for a, b in zip(self.generator, now, strict=True))

    def _changed(self, name: str, buffer: Tensor) -> bool:
        return name not in self.buffers or self.buffers[name].changed(buffer)


class _Before:
    """A tensor as it was."""

    def __init__(self, tensor: Tensor, copies: bool) -> None:
        self.tensor, self.version = tensor, _compat.version_of(tensor)
        self.copy = tensor.detach().clone() if copies else None

    def changed(self, now: Tensor) -> bool:
        """Whether it was written to, or is another one now."""
        if now is not self.tensor or _compat.version_of(now) != self.version:
            return True
        return self.copy is not None and not same_bits(self.copy, now)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one type hold the same; a NaN is equal to itself.

    Example:
        >>> same_bits(torch.tensor([torch.nan]), torch.tensor([torch.nan]))
        True
    """
    if one.layout != torch.strided or one.is_quantized or one.is_nested:
        return True  # such a module is refused
    pair = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (one, other))
    return torch.equal(*pair)


def _generators(tensors: Sequence[Tensor]) -> list[Tensor]:
    devices = {t.device for t in tensors if t.device.type == "cuda"}
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in sorted(devices, key=str))]


_WRITES = (
    "the module {} is not traced but called, and writes in place to a parameter or to a tensor that it is given: "
    "write to a copy (x = x.clone()), or make the tensor a buffer."
)
