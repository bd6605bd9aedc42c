import pytest
import torch

from funpipe.interop.pipelining._utils import PipeliningMetadataError, validate_static_arg_grad_correspondence

plain, wanted = torch.ones(1), torch.ones(1, requires_grad=True)


def test_a_gradient_for_each_tensor_that_requires_one():
    validate_static_arg_grad_correspondence(1, (plain, wanted), (None, torch.ones(1)), is_input=True)


@pytest.mark.parametrize(("is_input", "kind"), [(True, "input"), (False, "output")])
def test_what_does_not_correspond(is_input, kind):
    with pytest.raises(
        PipeliningMetadataError, match=rf"Stage 1: {kind}_grads length \(0\) .*{kind}_args length \(1\); give"
    ):
        validate_static_arg_grad_correspondence(1, (plain,), (), is_input)
    with pytest.raises(
        PipeliningMetadataError, match=rf"{kind}_args\[0\] has requires_grad=False, but {kind}_grads\[0\]"
    ):
        validate_static_arg_grad_correspondence(1, (plain,), (plain,), is_input)


def test_a_missing_one_is_warned_of():
    with pytest.warns(
        UserWarning, match=r"Stage 2: output_args\[0\] has requires_grad=True, but output_grads\[0\] is None"
    ):
        validate_static_arg_grad_correspondence(2, (wanted,), (None,), is_input=False)
