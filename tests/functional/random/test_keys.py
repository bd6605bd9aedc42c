"""Keys: what makes different ones, and what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import funpipe as fp
from funpipe._errors import FunpipeTypeError

SEEDS = st.integers(min_value=-(2**63), max_value=2**63 - 1)


@given(SEEDS)
def test_a_seed_is_its_key(seed):
    assert fp.random.key(seed) == seed


def test_of_a_large_seed_the_low_64_bits_count():
    assert fp.random.key(2**64 + 3) == 3
    assert fp.random.key(2**64 - 1) == -1


def test_a_key_is_itself():
    key = torch.tensor(5)
    assert fp.random.key(key) is key


@pytest.mark.parametrize("seed", ["7", 1.5, True, torch.ones(2), torch.tensor(1.0)])
def test_anything_else_is_refused(seed):
    with pytest.raises(FunpipeTypeError, match=r"pass an int, or what fp.random.key\(seed\) returned"):
        fp.random.key(seed)


@given(SEEDS, st.integers(0, 2**40), st.integers(0, 2**40))
def test_other_data_gives_another_key(seed, a, b):
    first, second = (fp.random.fold_in(fp.random.key(seed), n) for n in (a, b))
    assert (a == b) == bool(first == second)


def test_folding_in_many_at_once_is_folding_in_each():
    key = fp.random.key(7)
    keys = fp.random.fold_in(key, torch.arange(5))
    assert keys.tolist() == [int(fp.random.fold_in(key, n)) for n in range(5)]


def test_keys_and_data_broadcast():
    keys = fp.random.split(fp.random.key(7), 3)
    folded = fp.random.fold_in(keys[:, None], torch.arange(4))
    assert folded[2, 1] == fp.random.fold_in(keys[2], 1)
    assert folded.unique().numel() == 12


def test_split_folded_and_named_keys_differ():
    key = fp.random.key(7)
    made = [
        *fp.random.split(key, 4),
        *(fp.random.fold_in(key, n) for n in range(4)),
        fp.random.from_name(key, "w"),
        key,
    ]
    assert len({int(k) for k in made}) == len(made)


def test_keys_work_under_transforms():
    key = fp.random.key(7)
    assert torch.equal(
        torch.func.vmap(lambda n: fp.random.fold_in(key, n))(torch.arange(3)), fp.random.fold_in(key, torch.arange(3))
    )
    keys = fp.random.split(key, 3)
    drawn = torch.func.vmap(lambda k: fp.random.uniform(k, (5,)))(keys)
    assert torch.equal(drawn, torch.stack([fp.random.uniform(k, (5,)) for k in keys]))
