"""What a batch may hold besides tensors."""

import collections
import dataclasses
import enum

import optree
import pytest
import torch

from funpipe.functional.fixed import fixed, fixed_types, unfixed
from funpipe.functional.microbatch import split
from funpipe.functional.tree import named_leaves

X = torch.arange(4.0)


class Kind(enum.Enum):
    CAUSAL = 1
    FULL = 2


@dataclasses.dataclass(frozen=True)
class Inputs:
    x: torch.Tensor
    causal: bool
    more: dict

    def __post_init__(self):
        assert isinstance(self.x, torch.Tensor) and self.x.device.type == "cpu"


class Encoding(collections.UserDict):
    pass


def inputs(x=X, causal=True):
    return Inputs(x, causal, {"y": [x, 3]})


def test_a_tree_of_tensors_is_itself():
    batch = {"x": X, "y": [X, None]}
    assert fixed(batch) is batch


def test_values_have_no_leaves_and_come_back():
    batch = {"x": X, "kind": Kind.FULL, "scale": 0.5, "name": "a", "dtype": torch.int8, "flag": False, "n": 3}
    found = fixed(batch)
    assert list(named_leaves(found)[0]) == ["x"]
    assert unfixed(found) == batch


def test_the_structure_does_not_know_the_values():
    assert optree.tree_structure(fixed({"n": 3})) == optree.tree_structure(fixed({"n": "four"}))
    assert optree.tree_structure(fixed({"n": 3})) != optree.tree_structure(fixed({"n": X}))


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (1, True), (0.0, -0.0), ("1", 1), (Kind.FULL, Kind.CAUSAL), (None, "None")]
)
def test_types_differ_where_values_differ(one, other):
    assert fixed_types(fixed({"n": one})) != fixed_types(fixed({"n": other}))


def test_not_a_number_is_itself():
    assert fixed_types(fixed([float("nan")])) == fixed_types(fixed([float("nan")]))


def test_dataclasses_and_dicts_of_others_are_containers():
    found = fixed({"inputs": inputs(), "encoding": Encoding(ids=X)})
    assert list(named_leaves(found)[0]) == ["encoding.ids", "inputs.x", "inputs.more.y.0"]
    assert {n: str(kind) for n, kind in fixed_types(found).items()} == {"inputs.causal": "True", "inputs.more.y.1": "3"}


def test_containers_come_back_with_other_leaves():
    meta = unfixed(optree.tree_map(lambda t: t.to("meta"), fixed({"inputs": inputs(), "encoding": Encoding(ids=X)})))
    assert isinstance(meta["inputs"], Inputs) and meta["inputs"].x.device.type == "meta" and meta["inputs"].causal
    assert isinstance(meta["encoding"], Encoding) and meta["encoding"]["ids"].device.type == "meta"


def test_a_container_registered_with_torch_is_one():
    pair = dataclasses.make_dataclass("Pair", ["x", "y"])
    torch.export.register_dataclass(pair)
    found = unfixed(fixed(pair(X, 2)))
    assert (type(found), found.y) == (pair, 2) and found.x is X


def test_microbatches_of_it_are_split():
    parts = split(fixed({"inputs": inputs(), "n": 3}), 2, {"inputs": 0, "n": None})
    assert [unfixed(part)["inputs"].x.tolist() for part in parts] == [[0.0, 1.0], [2.0, 3.0]]
    assert unfixed(parts[1])["n"] == 3


def test_what_is_neither_stays():
    thing = object()
    assert fixed([thing, X]) == [thing, X]
