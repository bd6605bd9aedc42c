import pytest
import torch
from torch.func import grad, jvp, vjp, vmap

from funpipe._errors import FunpipeTypeError
from funpipe.functional.transformed import is_transformed, load_forward_mode, require_plain

load_forward_mode()
ONES = torch.ones(2)


def guarded(x):
    require_plain({"w": x}, "params", "fp.hvp")
    return x.sum()


TRANSFORMED = {
    "vmap": lambda: vmap(guarded)(torch.ones(3, 2)),
    "grad": lambda: grad(guarded)(ONES),
    "vjp": lambda: vjp(guarded, ONES),
    "jvp": lambda: jvp(guarded, (ONES,), (ONES,)),
}


@pytest.mark.parametrize("transform", TRANSFORMED)
def test_a_transform_around_is_an_error_with_the_remedy(transform):
    with pytest.raises(FunpipeTypeError, match=r"fp\.hvp was called inside .* params hold .* fp\.ensemble\(loss_fn\)"):
        TRANSFORMED[transform]()


def test_forward_mode_without_a_transform_is_one_too():
    with torch.autograd.forward_ad.dual_level(), pytest.raises(FunpipeTypeError, match="inside of a transform"):
        guarded(torch.autograd.forward_ad.make_dual(ONES, ONES))


def test_plain_tensors_pass_whatever_they_require():
    assert guarded(torch.ones(2, requires_grad=True)) == 2
    require_plain({"n": 3, "t": torch.tensor(1)}, "the batch", "fp.jvp")
    assert not is_transformed(torch.nn.Parameter(ONES))
