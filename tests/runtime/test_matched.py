"""A typing error in a pattern is an error of `init`, not a step that does something else."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import TreeError

PARAMS = {"body": {"weight": torch.ones(3, 3), "bias": torch.zeros(3)}, "head": torch.ones(3, 1)}
BATCH = {"x": torch.ones(2, 3)}


def loss_fn(params, batch):
    return ((batch["x"] @ params["body"]["weight"] + params["body"]["bias"]) @ params["head"]).square().mean()


def init(optimizer, **options):
    return fp.train_step(loss_fn, optimizer, backend="interpret", **options).init(PARAMS, BATCH)


def by_label(labels):
    return fp.optim.multi_transform({"a": fp.optim.sgd(0.1), "b": fp.optim.sgd(0.2)}, labels)


def wrappers():
    return [
        lambda o: o,
        fp.optim.ema,
        lambda o: fp.optim.accumulate(o, 2),
        lambda o: fp.optim.chain(fp.optim.clip_by_global_norm(1.0), o),
        lambda o: fp.optim.multi_transform({"all": o}, {"*": "all"}),
    ]


@pytest.mark.parametrize("wrap", wrappers())
def test_a_label_for_no_leaf(wrap):
    text = r"multi_transform: the label's pattern 'body.wieght' matches no leaf: .* the nearest are 'body.weight'"
    with pytest.raises(TreeError, match=text):
        init(wrap(by_label({"body": {"wieght": "a"}, "*": "b"})))


def test_labels_for_all_that_there_is():
    init(by_label({"body": {"weight": "a", "bias": "freeze"}, "*": "b"}))


def test_a_part_of_a_name_that_no_leaf_has():
    with pytest.raises(TreeError, match=r"precision: keep names 'haed', .* the nearest names are 'head'"):
        init(fp.optim.sgd(0.1), precision=fp.Precision(keep={"haed": torch.float32}))


def test_a_leaf_of_the_batch_may_be_kept():
    def doubled(params, batch):
        return loss_fn(params, {"x": batch["x"].to(params["head"].dtype)})

    step = fp.train_step(
        doubled, fp.optim.sgd(0.1), backend="interpret", precision=fp.Precision(keep={"x": torch.float32})
    )
    step.init(PARAMS, BATCH)


def test_a_batch_of_shapes_alone_cannot_run_and_harms_no_state():
    step = fp.train_step(loss_fn, fp.optim.sgd(0.1), backend="interpret")
    state = step.init(PARAMS, {"x": BATCH["x"].to("meta")})
    with pytest.raises(TreeError, match="batch: leaf 'x' is on the meta device and has no values"):
        step(state, {"x": BATCH["x"].to("meta")})
    state, metrics = step(state, BATCH)
    assert float(metrics["loss"]) > 0


def test_inference_mode_around_the_trace():
    with torch.inference_mode(), pytest.raises(ValueError, match=r"torch.inference_mode\(\) is open around the call"):
        init(fp.optim.sgd(0.1))
