import dataclasses
from collections import OrderedDict, namedtuple

import pytest
import torch

from funpipe._errors import TraceError
from funpipe.tracing.ways.packed import pack

Pair = namedtuple("Pair", ["x", "y"])


@dataclasses.dataclass(frozen=True)
class Record:
    x: torch.Tensor
    name: str


X, Y = torch.ones(2), torch.zeros(3)
VALUES = [X, (X, Y), [X, None, 3], {"a": X, "b": {"c": Y}}, OrderedDict(b=X, a=Y), Pair(X, Y), Record(X, "n"), 3, None]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_packed_comes_back(value):
    tensors, structure = pack(value)
    again = structure.rebuilt(tensors)
    assert type(again) is type(value)
    assert pack(again)[1] == structure
    assert [id(t) for t in pack(again)[0]] == [id(t) for t in tensors]


def test_structures_tell_numbers_and_keys_apart_and_not_tensors():
    assert pack({"a": X})[1] == pack({"a": Y})[1]
    assert pack({"a": X})[1] != pack({"b": X})[1]
    assert pack((X, 1))[1] != pack((X, 2))[1]


def test_an_object_that_is_no_container_is_named():
    with pytest.raises(TraceError, match="Generator is neither a tensor nor a container"):
        pack([X, torch.Generator()])


def test_code_is_kept_where_it_may_be():
    assert pack((torch.tanh, X), code=True)[1].rebuilt([Y]) == (torch.tanh, Y)
    with pytest.raises(TraceError, match="neither a tensor"):
        pack(torch.tanh)
