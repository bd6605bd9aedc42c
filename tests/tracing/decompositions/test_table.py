"""Operators that torch's stand-ins refuse or misjudge, in forward and backward."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import funpipe as fp


def check(loss, params: dict[str, Tensor], batch: dict[str, Tensor]) -> fp.Traced:
    """Equal to eager autograd, and nothing but plain shapes in the graph."""
    found, gradients = fp.value_and_grad(loss, batch_spec=None, backend="interpret")(params, batch)
    leaves = {n: p.detach().clone().requires_grad_() for n, p in params.items()}
    wanted = loss(leaves, batch)
    wanted.backward()
    torch.testing.assert_close(found, wanted.detach())
    for name, leaf in leaves.items():
        torch.testing.assert_close(gradients[name], leaf.grad)
    return fp.trace(loss, params, batch)


def targets(traced: fp.Traced) -> set[str]:
    """The operators of a graph."""
    return {str(n.target) for n in (*traced.forward, *traced.backward)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_products_of_every_dtype(dtype):
    def loss(params, batch):
        out = F.grouped_mm(batch["x"].to(dtype), params["w"].to(dtype), offs=batch["ends"])
        return out.float().square().mean()

    ends = torch.tensor([3, 3, 16], dtype=torch.int32)
    found = targets(check(loss, {"w": torch.randn(3, 8, 16)}, {"x": torch.randn(16, 8), "ends": ends}))
    assert "funpipe.grouped_mm.default" in found and not any("_grouped_mm" in t for t in found)


@pytest.mark.parametrize("flat", [False, True])
def test_the_ctc_loss_of_lengths_that_are_tensors(flat):
    def loss(params, batch):
        scores = (batch["x"] @ params["w"]).log_softmax(-1).transpose(0, 1)
        labels = batch["y"].flatten()[:9] if flat else batch["y"]
        return F.ctc_loss(scores, labels, torch.tensor([30, 25]), batch["lengths"])

    batch = {"x": torch.randn(2, 30, 10), "y": torch.randint(1, 10, (2, 6)), "lengths": torch.tensor([6, 3])}
    check(loss, {"w": 0.3 * torch.randn(10, 10)}, batch)


def test_sizes_that_values_decide_are_constants_with_a_guard():
    def loss(params, batch):
        x, mask = batch["x"] * params["w"], batch["mask"]
        chosen = x[mask].square().sum() + x.masked_select(~mask).sum() + (x[:, mask[0]] ** 3).sum()
        rows = x.repeat_interleave(batch["repeats"], dim=0)
        return chosen + rows.sum() + x[mask.nonzero(as_tuple=True)].exp().mean()

    mask = torch.tensor([[True, False, True], [False, False, True]])
    batch = {"x": torch.randn(2, 3), "mask": mask, "repeats": torch.tensor([3, 1])}
    traced = check(loss, {"w": torch.randn(2, 3)}, batch)
    assert {g.value for g in traced.guards} == {2, 3, 4}
    assert not {t for t in targets(traced) if "masked_select" in t or t == "aten.nonzero.default"}


def test_a_size_that_parameters_decide_is_refused():
    def loss(params, batch):
        return params["w"][params["w"] > 0].sum() + batch["x"].sum()

    with pytest.raises(fp.FunpipeError, match="depends on the parameter 'w', which every step changes"):
        fp.trace(loss, {"w": torch.randn(3)}, {"x": torch.ones(2)})


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("both_ways", [True, False])
def test_the_backward_of_an_lstm(training, both_ways):
    module = nn.LSTM(3, 4, num_layers=2, batch_first=True, bidirectional=both_ways).train(training)
    apply, params, _ = fp.functionalize(module)

    def loss(params, batch):
        out, (h, c) = apply(params, {}, batch["x"])[0]
        return out.square().mean() + h.sum() + c.exp().mean()

    check(loss, {n: p.detach() for n, p in params.items()}, {"x": torch.randn(2, 5, 3)})


def test_a_distribution_of_parameters_is_not_checked_in_a_trace():
    def loss(params, batch):
        scale = F.softplus(params["w"])
        return -torch.distributions.StudentT(scale + 2, params["w"], scale).log_prob(batch["x"]).mean()

    check(loss, {"w": torch.randn(3)}, {"x": torch.randn(4, 3)})
