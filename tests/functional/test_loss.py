import pytest
import torch

from funpipe._errors import LossError, TreeError
from funpipe.functional.loss import LossOut, Out, Weighted, normalize
from funpipe.functional.reducers import last, mean

ONE = torch.tensor(1.0)


def test_a_tensor():
    assert normalize(ONE) == LossOut(ONE, None, {}, None)


def test_a_weighted_loss():
    weight = torch.tensor(3)
    assert normalize(Weighted(ONE, weight)) == LossOut(ONE, weight, {}, None)


def test_out_with_everything():
    buffers, acc, step = {"mean": torch.ones(2)}, mean(ONE), last(ONE)
    out = normalize(Out(Weighted(ONE, ONE), aux={"step": step, "acc": acc}, buffers=buffers))
    assert (out.loss_sum, out.weight, out.buffers) == (ONE, ONE, buffers)
    assert list(out.aux.items()) == [("acc", acc), ("step", step)]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (torch.ones(2, 3), r"the loss has shape \(2, 3\), not that of a scalar; reduce it with \.mean\(\)\."),
        (torch.ones(1), r"the loss has shape \(1,\), not that of a scalar; reduce it with \.mean\(\)\."),
        (
            torch.tensor(1),
            r"the loss is int64\[\], not floating-point, and has no gradient; convert it with \.float\(\)\.",
        ),
        (torch.tensor(1j), r"the loss is complex64\[\], not floating-point"),
        (
            1.0,
            r"the loss is of type float, not a tensor; return a scalar tensor, fp\.Weighted\(sum, weight\), or fp\.Out",
        ),
        ((ONE, {}), r"the loss is of type tuple, not a tensor; return a scalar tensor"),
        (None, r"the loss is of type NoneType, not a tensor"),
        (Weighted(torch.ones(2), ONE), r"the sum of fp\.Weighted has shape \(2,\), .*; reduce it with \.sum\(\)\."),
        (
            Weighted(ONE, 3),
            r"the weight of fp\.Weighted is of type int, not a tensor; use loss\.new_tensor\(weight\)\.",
        ),
        (Weighted(ONE, torch.ones(2)), r"the weight of fp\.Weighted has shape \(2,\), .*; reduce it with \.sum\(\)\."),
        (
            Weighted(ONE, torch.tensor(1j)),
            r"the weight of fp\.Weighted is complex64\[\], not a real number; pass its real",
        ),
        (
            Weighted(ONE, torch.ones((), requires_grad=True)),
            r"the weight of fp\.Weighted depends on the parameters, .*; pass weight\.detach\(\)\.",
        ),
    ],
)
def test_what_is_no_loss(loss, message):
    with pytest.raises(LossError, match=message):
        normalize(loss)
    with pytest.raises(LossError, match=message):
        normalize(Out(loss))


def test_a_weight_that_depends_on_the_parameters_is_seen_under_func_grad():
    with pytest.raises(LossError, match=r"depends on the parameters"):
        torch.func.grad(lambda p: normalize(Weighted(p * 2, p * 3)).loss_sum)(ONE)
    torch.func.grad(lambda p: normalize(Weighted(p * 2, (p * 3).detach())).loss_sum)(ONE)


def test_aux_without_a_reducer():
    with pytest.raises(LossError) as error:
        normalize(Out(ONE, aux={"acc": torch.ones(2)}))
    assert str(error.value) == (
        "aux['acc'] is float32[2] without a reducer; wrap it in one of fp.mean, fp.sum, fp.max, fp.last, fp.cat."
    )


def test_aux_that_is_no_dict_of_names():
    with pytest.raises(LossError, match=r"aux is of type list; pass a dict from names to reduced values\."):
        normalize(Out(ONE, aux=[mean(ONE)]))  # type: ignore[arg-type]
    with pytest.raises(LossError, match=r"aux has the key 1; use a str\."):
        normalize(Out(ONE, aux={1: mean(ONE)}))  # type: ignore[dict-item]


def test_buffers_that_are_no_tensors():
    with pytest.raises(TreeError, match=r"the buffers of fp\.Out: leaf 'n' is of type int, not a tensor"):
        normalize(Out(ONE, buffers={"n": 1}))
