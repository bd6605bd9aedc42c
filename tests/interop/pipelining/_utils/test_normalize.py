import pytest
import torch

from funpipe.interop.pipelining._utils import PipeliningMetadataError, validate_and_normalize_to_tuple

x = torch.ones(2)


@pytest.mark.parametrize(("given", "tuple_"), [(None, None), (x, (x,)), ((x, x), (x, x)), ([x], (x,)), ((), ())])
def test_everything_becomes_a_tuple(given, tuple_):
    assert validate_and_normalize_to_tuple(given) == tuple_


def test_none_may_be_allowed():
    assert validate_and_normalize_to_tuple((x, None), allow_none=True) == (x, None)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((x, None), r"Stage arg\[1\] is None, not a tensor. Use kwargs"),
        ((x, 3), r"Stage arg\[1\] has type int, not a tensor. Use kwargs"),
        ((x, [x]), r"Stage arg\[1\] has type list"),
        ({"x": x}, "must be a tensor, tuple, or list of tensors, got dict; pass a tuple"),
    ],
)
def test_what_is_no_tensor_is_an_error(given, text):
    with pytest.raises(PipeliningMetadataError, match=text):
        validate_and_normalize_to_tuple(given)
