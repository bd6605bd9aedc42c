"""Philox4x32-10: a bijection of 128-bit counters for each 64-bit key, written as elementwise integer operations.

A word is an int64 below 2**32, and Inductor vectorises what is done with it. Each counter gives four words. Ten rounds,
each with the key raised by a Weyl constant:

    c0 c1 c2 c3  ──►  hi(M1 c2) ^ c1 ^ k0,   lo(M1 c2),   hi(M0 c0) ^ c3 ^ k1,   lo(M0 c0)

No product may reach 2**63: overflow of signed integers is undefined in C++, and a compiler that knows the words to be
positive takes their product to be positive, too. M is above 2**31, so a word is multiplied with M - 2**32 instead:

    c M = c 2**32 + q,   q = c (M - 2**32),   |q| < 2**62   ──►   hi = c + (q >> 32),   lo = q & MASK

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC'11), and its library Random123.
"""

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
"""The low 32 bits."""

_ROUNDS = 10
_M0, _M1 = 0xD2511F53 - 2**32, 0xCD9E8D57 - 2**32
_W0, _W1 = 0x9E3779B9, 0xBB67AE85

Words = tuple[Tensor, Tensor, Tensor, Tensor]

DRAW, FOLD, SPLIT = 0, 1, 2
"""The third word of a counter: what it is used for, so that no two uses of a key share a counter."""


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> Words:
    """The four words of each counter.

    Args:
        counter: four words, lowest first; they broadcast with each other and with the key.
        key: two words, lowest first.

    Returns:
        Four words of the common shape.

    Example:
        >>> zero = torch.tensor(0)
        >>> [f"{int(word):08x}" for word in philox((zero, zero, zero, zero), (zero, zero))]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(_ROUNDS):
        q0, q1 = c0 * _M0, c2 * _M1
        high0, high1 = c0 + (q0 >> 32), c2 + (q1 >> 32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, q1 & MASK, high0 ^ c3 ^ k1, q0 & MASK
        k0, k1 = (k0 + _W0) & MASK, (k1 + _W1) & MASK
    return c0, c1, c2, c3


def words_of(key: Tensor, low: Tensor, use: int) -> Words:
    """The four words of 64-bit counters.

    Args:
        key: int64, 64 bits.
        low: int64, the low 64 bits of the counters; broadcasts with the key.
        use: `DRAW`, `FOLD` or `SPLIT`.

    Returns:
        Four words of the common shape.

    Example:
        >>> [tuple(word.shape) for word in words_of(torch.tensor(1), torch.arange(5), DRAW)]
        [(5,), (5,), (5,), (5,)]
    """
    zero = torch.zeros((), dtype=torch.int64, device=key.device)
    return philox((low & MASK, _high(low), zero + use, zero), (key & MASK, _high(key)))


def _high(x: Tensor) -> Tensor:
    """The high 32 bits; the shift keeps the sign, so what it draws in is cut off."""
    return (x >> 32) & MASK
