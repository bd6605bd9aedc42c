"""Keys: 64 bits that determine all numbers drawn with them; new ones are made from old ones."""

import hashlib

import torch
from torch import Tensor

from funpipe._errors import FunpipeTypeError
from funpipe.functional.random.philox import FOLD, SPLIT, words_of


def key(seed: int | Tensor) -> Tensor:
    """A key from a seed.

    Args:
        seed: any integer, of which the low 64 bits count; a key is returned as it is.

    Returns:
        A 0-dim int64 tensor.

    Raises:
        FunpipeTypeError: it is neither an int nor a 0-dim int64 tensor.

    Example:
        >>> key(7)
        tensor(7)
    """
    if isinstance(seed, Tensor) and seed.ndim == 0 and seed.dtype == torch.int64:
        return seed
    if isinstance(seed, bool) or not isinstance(seed, int):
        what = f"{seed.dtype} of shape {tuple(seed.shape)}" if isinstance(seed, Tensor) else f"{seed!r}"
        raise FunpipeTypeError(f"the key is {what}; pass an int, or what fp.random.key(seed) returned.")
    low = seed & (2**64 - 1)
    return torch.tensor(low - 2**64 if low >= 2**63 else low, dtype=torch.int64, device="cpu")


def fold_in(key: Tensor, data: int | Tensor) -> Tensor:
    """A new key from a key and an integer: another integer gives another, unrelated key.

    Args:
        key: int64, one key or several.
        data: an integer of 64 bits, or an int64 tensor that broadcasts with the key.

    Returns:
        int64 keys of the common shape.

    Example:
        >>> fold_in(key(7), 0) == fold_in(key(7), 1)
        tensor(False)
        >>> fold_in(key(7), torch.arange(3)).shape
        torch.Size([3])
    """
    folded = data if isinstance(data, Tensor) else torch.full((), data, dtype=torch.int64, device=key.device)
    return _key_of(key, folded, FOLD)


def split(key: Tensor, count: int = 2) -> Tensor:
    """Several new keys from one, which should not be used again.

    Args:
        key: 0-dim int64.
        count: how many.

    Returns:
        int64 keys, shape `(count,)`; `unbind()` gives them one by one.

    Example:
        >>> first, second = split(key(7)).unbind()
        >>> first == second
        tensor(False)
    """
    return _key_of(key, torch.arange(count, device=key.device), SPLIT)


def from_name(key: Tensor, name: str) -> Tensor:
    """A new key from a key and a name, such as that of a parameter.

    Args:
        key: int64, one key or several.
        name: any text.

    Returns:
        int64 keys of the same shape.

    Example:
        >>> from_name(key(7), "layers.0.weight") == from_name(key(7), "layers.1.weight")
        tensor(False)
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return fold_in(key, int.from_bytes(digest, "big", signed=True))


def _key_of(key: Tensor, data: Tensor, use: int) -> Tensor:
    low, high, _, _ = words_of(key, data, use)
    return low | (high << 32)
