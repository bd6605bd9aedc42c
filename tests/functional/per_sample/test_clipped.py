import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeError, LossError
from funpipe.functional.per_sample.clipped import factors, norm_dtype, squares_of, trained

X = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])


def loss(params, batch):
    return (batch @ params["w"]).mean()


def gradient(loss_fn, batch=X, w=None):
    params = {"w": torch.zeros(2) if w is None else w}
    return torch.func.grad(lambda p: fp.per_sample_clipped(loss_fn, 1.0)(p, batch).loss)(params)["w"]


def test_long_gradients_are_scaled_and_short_ones_stay():
    torch.testing.assert_close(gradient(loss), (torch.tensor([0.6, 0.8]) + X[1]) / 3)


def test_the_value_is_the_loss():
    out = fp.per_sample_clipped(loss, 1.0)({"w": torch.ones(2)}, X)
    torch.testing.assert_close(out.loss, loss({"w": torch.ones(2)}, X))


def test_values_are_reported_over_the_samples():
    def full(params, batch):
        row = batch @ params["w"]
        values = {"mean": fp.mean(row[0]), "sum": fp.sum(row[0]), "max": fp.max(row[0]), "last": fp.last(row[0])}
        count = {"count": fp.mean(torch.tensor(2)), "rows": fp.cat(row)}
        return fp.Out(row.mean(), values | count)

    aux = fp.per_sample_clipped(full, 1.0)({"w": torch.ones(2)}, X).aux
    rows = X.sum(1)
    found = {n: value.value for n, value in aux.items()}
    assert torch.equal(found.pop("rows"), rows) and found.pop("count") == 2
    torch.testing.assert_close(found, {"mean": rows.mean(), "sum": rows.sum(), "max": rows.max(), "last": rows[-1]})


def test_weights():
    def weighted(params, batch):
        real = (batch.abs().sum() > 0).float()
        return fp.Weighted((batch @ params["w"]).sum() * real, real)

    out = fp.per_sample_clipped(weighted, 1.0)({"w": torch.ones(2)}, X)
    assert out.loss.weight == 2
    grads = torch.func.grad(lambda p: fp.per_sample_clipped(weighted, 1.0)(p, X).loss.sum)({"w": torch.ones(2)})
    torch.testing.assert_close(grads["w"], torch.tensor([0.9, 1.2]))


def test_half_precision_norms_are_taken_in_single_precision():
    grads = torch.full((1, 4), 300.0, dtype=torch.float16)
    assert squares_of(grads).dtype == torch.float32 and squares_of(grads).item() == 360000.0
    assert norm_dtype([torch.float16]) == torch.float32 and norm_dtype([torch.float16, torch.float64]) == torch.float64


def test_a_gradient_of_zero_is_not_divided_by():
    assert torch.equal(factors(torch.zeros(2), 1e-3), torch.ones(2))


def test_which_leaves_count():
    leaves = {"a": torch.ones(1), "n": torch.ones(1, dtype=torch.int64)}
    assert trained(leaves) == ["a"]
    assert trained(leaves | {"b": torch.ones(1, requires_grad=True)}) == ["b"]


def test_what_is_refused():
    with pytest.raises(LossError, match="per_sample_clipped: the loss function takes buffers"):
        fp.per_sample_clipped(lambda params, batch, *, buffers: None, 1.0)
    with pytest.raises(FunpipeError, match=r"per_sample_clipped: max_norm is 0; pass a number above 0, such as 1\.0"):
        fp.per_sample_clipped(loss, 0)
