"""What a loss function returns: weighted sums, and values to report with their reducers."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import LossError
from funpipe._typing import TensorType
from funpipe.runtime.metrics import pack, unpack
from tests.api.models import batch_of, batches, eager, largest_error, largest_loss_error, params_of, step_of, trained


def outputs(params, batch):
    h = torch.tanh(batch["x"] @ params["first"]["weight"] + params["first"]["bias"])
    h = torch.tanh(fp.mark_stage_end(h) @ params["rest"][0])
    return h @ params["rest"][1][0]


def weighted(params, batch):
    rows = (outputs(params, batch) - batch["y"]).square().sum(1)
    return fp.Weighted((rows * batch["mask"]).sum(), batch["mask"].sum())


def masked(seed=0):
    """The microbatches of two rows have 2, 1, 1 and 0 rows that count."""
    return batch_of(seed=seed) | {"mask": torch.tensor([1.0, 1, 1, 0, 0, 1, 0, 0])}


@pytest.mark.parametrize("stages", [1, 2])
def test_a_weighted_loss_is_all_the_sums_by_all_the_weights(stages):
    def plain(params, batch):
        found = weighted(params, batch)
        return found.sum / found.weight

    step = step_of(weighted, stages=stages)
    state, losses = trained(step, params_of(), [masked(s) for s in range(5)])
    wanted, wanted_losses = eager(
        plain, params_of(), [masked(s) for s in range(5)], lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)
    )
    assert largest_loss_error(losses, wanted_losses) < 1e-5
    assert largest_error(step.gather(state)[0], wanted) < 1e-5


def reporting(params, batch):
    out = outputs(params, batch)
    rows = (out - batch["y"]).square().mean(1).detach()
    return fp.Out(
        (out - batch["y"]).square().mean(),
        aux={
            "rows": fp.cat(rows),
            "mean": fp.mean(rows.mean()),
            "count": fp.sum(torch.ones(2, dtype=torch.int64)),
            "largest": fp.max(rows.max()),
            "last": fp.last(batch["y"]),
            "bias": fp.last(params["first"]["bias"]),
            "end": fp.last(params["rest"][1][0]),
        },
    )


def test_values_are_combined_over_the_microbatches():
    step, batch, params = step_of(reporting), batch_of(), params_of()
    _, metrics = step(step.init(params, batch), batch)
    rows = (outputs(params, batch) - batch["y"]).square().mean(1)
    assert sorted(metrics) == ["bias", "count", "end", "largest", "last", "loss", "mean", "rows"]
    torch.testing.assert_close(metrics["rows"], rows)
    torch.testing.assert_close(metrics["mean"], rows.mean())
    torch.testing.assert_close(metrics["loss"], rows.mean())
    torch.testing.assert_close(metrics["largest"], rows.max())
    assert metrics["count"].tolist() == [4, 4]
    assert torch.equal(metrics["last"], batch["y"][6:])


def test_a_parameter_that_is_reported_is_that_before_the_update():
    step, params = step_of(reporting), params_of()
    state, metrics = step(step.init(params, batch_of()), batch_of())
    _, later = step(state, batch_of())
    assert torch.equal(metrics["bias"], params["first"]["bias"])
    assert torch.equal(metrics["end"], params["rest"][1][0])
    assert not torch.equal(later["end"], metrics["end"])


def test_a_batch_that_is_reported_does_not_change_with_the_batch():
    batch, step = batch_of(), step_of(reporting)
    _, metrics = step(step.init(params_of(), batch), batch)
    kept = batch["y"][6:].clone()
    batch["y"].zero_()
    assert torch.equal(metrics["last"], kept)


def test_an_unknown_metric_names_those_there_are():
    step = step_of(reporting)
    _, metrics = step(step.init(params_of(), batch_of()), batch_of())
    with pytest.raises(KeyError, match="there is no metric 'acc'; there are 'bias', 'count'"):
        metrics["acc"]
    assert len(metrics) == 8
    assert "mean" in metrics


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (lambda p, b: outputs(p, b), r"the loss has shape \(2, 2\), not that of a scalar; reduce it with \.mean\(\)"),
        (lambda p, b: 3, "the loss is of type int, not a tensor"),
        (lambda p, b: torch.tensor(3), "the loss is int64"),
        (lambda p, b: fp.Out(outputs(p, b).mean(), aux={"a": b["x"]}), r"aux\['a'\] is .* without a reducer"),
        (lambda p, b: fp.Out(outputs(p, b).mean(), aux={"loss": fp.sum(b["x"])}), "the key 'loss', .* another name"),
        (lambda p, b: fp.Weighted(outputs(p, b).sum(), b["x"]), r"the weight of fp.Weighted has shape \(2, 5\)"),
        (lambda p, b: fp.Weighted(outputs(p, b).sum(), outputs(p, b).sum()), r"weight .* pass weight.detach\(\)"),
    ],
)
def test_what_is_no_loss_is_an_error(loss, text):
    with pytest.raises(LossError, match=text):
        step_of(loss).init(params_of(), batch_of())


def test_a_reported_value_needs_no_training_leaf():
    step = step_of(lambda p, b: fp.Out((b["x"] @ p).mean(), aux={"y": fp.mean(b["y"].mean())}))
    _, metrics = step(step.init(torch.ones(5, 1), batch_of()), batch_of())
    torch.testing.assert_close(metrics["y"], batch_of()["y"].mean())


def test_losses_of_several_steps_are_kept_apart():
    state, losses = trained(step_of(reporting), params_of(), batches(4))
    assert len({float(loss) for loss in losses}) == 4
    assert state.step == 4


def counting(dtype):
    """Microbatches of 50 rows, of which all count."""

    def loss(params, batch):
        rows = (batch["x"] @ params["w"]).square().sum(1)
        weight = batch["keep"].any() if dtype == torch.bool else batch["keep"].sum().to(dtype)
        return fp.Weighted(rows.sum(), weight)

    return loss


@pytest.mark.parametrize(("dtype", "weight"), [(torch.bool, 4), (torch.int8, 200), (torch.uint8, 200)])
def test_a_narrow_weight_is_summed_in_double(dtype, weight):
    batch = batch_of(rows=200) | {"keep": torch.ones(200, dtype=torch.bool)}
    step = step_of(counting(dtype))
    _, metrics = step(step.init({"w": torch.ones(5, 1)}, batch), batch)
    torch.testing.assert_close(metrics["loss"], (batch["x"] @ torch.ones(5, 1)).square().sum() / weight)
    assert step.lowered.all.types["result.weight"].dtype == torch.float64


def test_a_half_weight_is_summed_in_double():
    """2049 is no float16, which counts on by two from 2048."""

    def loss(params, batch):
        return fp.Weighted((batch["x"] @ params["w"]).sum(), batch["keep"].sum())

    batch = batch_of(rows=2) | {"keep": torch.tensor([2048.0, 1.0], dtype=torch.float16)}
    step = step_of(loss, num_microbatches=2)
    _, metrics = step(step.init({"w": torch.ones(5, 1)}, batch), batch)
    torch.testing.assert_close(metrics["loss"], batch["x"].sum() / 2049, rtol=1e-6, atol=0)


KINDS = ["mean", "sum", "max", "last", "cat"]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float16, torch.float32])
def test_results_have_the_types_of_their_programs(dtype):
    def loss(params, batch):
        value = batch["y"].to(dtype)
        return fp.Out((batch["x"] @ params["w"]).sum(), aux={k: getattr(fp, k)(value) for k in KINDS})

    step = step_of(loss)
    _, metrics = step(step.init({"w": torch.ones(5, 1)}, batch_of()), batch_of())
    types = step.lowered.all.types
    assert {k: TensorType.of(metrics[k]) for k in KINDS} == {k: types[f"result.aux.{k}"] for k in KINDS}
    results = metrics._results
    local = {n: metrics[n.removeprefix("aux.")] for n in results.owners}
    assert all(torch.equal(t, local[n]) for n, t in unpack(results, pack(results, local, torch.device("cpu"))).items())


@pytest.mark.parametrize("kind", ["cat", "max"])
def test_an_auxiliary_value_may_be_called_weight_beside_a_weighted_loss(kind):
    def loss(params, batch):
        aux = {"weight": getattr(fp, kind)(batch["mask"])}
        return fp.Out(weighted(params, batch), aux=aux)

    found, wanted = (trained(step_of(f), params_of(), [masked()])[1][0] for f in (loss, weighted))
    assert torch.equal(found, wanted)
    step = step_of(loss)
    _, metrics = step(step.init(params_of(), masked()), masked())
    assert metrics["weight"].tolist() == (masked()["mask"].tolist() if kind == "cat" else [1.0, 1.0])
