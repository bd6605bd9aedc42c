"""What goes ahead of a message's tensors: which they are, and their shapes.

Shapes are not agreed on beforehand, so that microbatches of one step may differ in size.
"""

from collections.abc import Mapping

import torch

from funpipe.interop.pipelining.errors import PipeTypeError

SIZE = 64
"""Numbers in the first part of a header; a longer one has a second part."""

# The position is what is sent, the same on all ranks; 0 stands for no tensor.
_DTYPES = (None, *sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str))
_FAILED = -1


def encode(tensors: Mapping[int, torch.Tensor | None]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The header of some tensors, named by numbers; its second part is None where the first is enough.

    Raises:
        PipeTypeError: a tensor of a class of its own, as a DTensor.
    """
    words = [word for index, tensor in tensors.items() for word in _words(index, tensor)]
    first = torch.zeros(SIZE, dtype=torch.int64)
    first[0] = len(words)
    first[1 : 1 + len(words)] = torch.tensor(words[: SIZE - 1], dtype=torch.int64)
    rest = words[SIZE - 1 :]
    return first, torch.tensor(rest, dtype=torch.int64) if rest else None


def failed() -> torch.Tensor:
    """The header of a message that will not come, since its sender failed."""
    return torch.full((SIZE,), _FAILED, dtype=torch.int64)


def is_failed(first: torch.Tensor) -> bool:
    """Whether a header says that its sender failed."""
    return first[0].item() == _FAILED


def length_of_rest(first: torch.Tensor) -> int:
    """How many numbers the second part has."""
    return max(0, int(first[0].item()) - (SIZE - 1))


def decode(first: torch.Tensor, rest: torch.Tensor | None) -> dict[int, torch.Tensor | None]:
    """Memory for the tensors of a header.

    Example:
        >>> tensors = {2: torch.ones(2, 3), 5: None}
        >>> decode(*encode(tensors))[2].shape, decode(*encode(tensors))[5]
        (torch.Size([2, 3]), None)
    """
    words = first[1 : 1 + int(first[0].item())].tolist() + ([] if rest is None else rest.tolist())
    found: dict[int, torch.Tensor | None] = {}
    while words:
        index, code, requires_grad, ndim, *words = words
        shape, words = words[:ndim], words[ndim:]
        dtype = _DTYPES[code]
        found[index] = None if dtype is None else torch.empty(shape, dtype=dtype).requires_grad_(bool(requires_grad))
    return found


def _words(index: int, tensor: torch.Tensor | None) -> list[int]:
    if tensor is None:
        return [index, 0, 0, 0]
    if type(tensor) is not torch.Tensor and not isinstance(tensor, torch.nn.Parameter):
        raise PipeTypeError(
            f"a {type(tensor).__name__} cannot be sent between stages; return plain tensors, a DTensor's to_local() say"
        )
    return [index, _DTYPES.index(tensor.dtype), tensor.requires_grad, tensor.dim(), *tensor.shape]
