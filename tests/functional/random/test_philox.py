"""Philox against the known answers of Random123 (its file kat_vectors)."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funpipe.functional.random.philox import DRAW, FOLD, philox, words_of

ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(int(word, 16)) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "answer"), ANSWERS)
def test_known_answers(counter, key, answer):
    found = philox(words(counter), words(key))
    assert " ".join(f"{int(word):08x}" for word in found) == answer


class Signed(int):
    """An integer of 64 bits whose overflow is an error: in C++ it is undefined."""

    def __new__(cls, value: int) -> "Signed":
        if not -(2**63) <= value < 2**63:
            raise OverflowError(f"{value} has more than 64 bits")
        return super().__new__(cls, value)

    def __add__(self, other: int) -> "Signed":
        return Signed(int(self) + other)

    def __mul__(self, other: int) -> "Signed":
        return Signed(int(self) * other)

    def __rshift__(self, other: int) -> "Signed":
        return Signed(int(self) >> other)

    def __and__(self, other: int) -> "Signed":
        return Signed(int(self) & other)

    def __xor__(self, other: int) -> "Signed":
        return Signed(int(self) ^ other)


WORD = st.one_of(st.integers(0, 2**32 - 1), st.integers(2**32 - 9, 2**32 - 1))


@given(st.tuples(WORD, WORD, WORD, WORD), st.tuples(WORD, WORD))
def test_no_number_overflows(counter, key):
    compute: Any = philox
    found = compute(tuple(map(Signed, counter)), tuple(map(Signed, key)))
    assert [int(w) for w in found] == by_definition(counter, key)


def by_definition(counter, key):
    """The rounds in integers of any length."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        high1, low1 = divmod(c2 * 0xCD9E8D57, 2**32)
        high0, low0 = divmod(c0 * 0xD2511F53, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [c0, c1, c2, c3]


def test_a_negative_key_is_its_64_bits():
    low, high = torch.tensor(0xFFFFFFFF), torch.tensor(0xFFFFFFFF)
    zero, one = torch.tensor(0), torch.tensor(1)
    found = words_of(torch.tensor(-1), zero, FOLD)
    assert torch.equal(torch.stack(found), torch.stack(philox((zero, zero, one, zero), (low, high))))


def test_counters_of_more_than_32_bits_differ_from_their_low_bits():
    key = torch.tensor(7)
    small, large = (torch.stack(words_of(key, torch.tensor(n), DRAW)) for n in (5, 5 + 2**32))
    assert not torch.equal(small, large)


def test_words_have_32_bits():
    found = torch.stack(words_of(torch.tensor(-(2**63)), torch.arange(1000), DRAW))
    assert 0 <= int(found.min()) and int(found.max()) < 2**32
