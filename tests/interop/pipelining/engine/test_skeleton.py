"""Trees without their tensors."""

from types import SimpleNamespace

import pytest
import torch

import funpipe as fp
from funpipe.interop.pipelining.engine.skeleton import apart


def test_what_is_taken_apart_is_put_together_again():
    tree = {"a": [torch.ones(2), None, "x"], "b": (torch.zeros(1), 3)}
    skeleton, tensors = apart(tree, "arg")
    filled = skeleton.fill(tensors)
    assert filled["a"][1:] == [None, "x"] and filled["b"][1] == 3
    assert torch.equal(filled["a"][0], torch.ones(2)) and list(tensors) == ["arg.0", "arg.1"]


def test_keys_tell_other_constants_from_other_values():
    one, other, third = (apart({"x": torch.full((2,), float(k)), "n": n}, "a")[0] for k, n in ((0, 1), (5, 1), (0, 2)))
    assert one.key == other.key != third.key


def test_tensors_inside_of_things_are_an_error_and_no_constants():
    with pytest.raises(fp.FunpipeError, match="an argument holds a SimpleNamespace with tensors inside"):
        apart([SimpleNamespace(x=torch.ones(1))], "arg")
