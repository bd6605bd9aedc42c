"""A dimension of the batch whose size changes."""

import warnings

import pytest
import torch

import funpipe as fp
from funpipe._errors import BatchError, FunpipeTypeError, FunpipeWarning, TraceError
from funpipe.backends.dynamic import build
from funpipe.runtime.dynamic import other_sizes

PARAMS = {"w": torch.linspace(-1, 1, 12).view(3, 4), "v": torch.linspace(-1, 1, 4)}


def loss_fn(params, batch):
    x = torch.tanh(batch["x"] @ params["w"])
    weights = (x @ x.transpose(1, 2) + torch.arange(x.shape[1])).softmax(-1)
    return ((weights @ x) @ params["v"] - batch["y"]).square().mean()


def batch_of(size, rows=4):
    generator = torch.Generator().manual_seed(size)
    return {"x": torch.randn(rows, size, 3, generator=generator), "y": torch.randn(rows, size, generator=generator)}


def made(function=loss_fn, **options):
    return fp.train_step(function, fp.optim.sgd(0.1), num_microbatches=2, **options)


def test_one_compilation_serves_every_size(monkeypatch):
    """Compiles, because that is what is counted."""
    step = made(dynamic=1, stages=2)
    sources = []
    real = build.build
    monkeypatch.setattr(build, "build", lambda s, report: sources.append(len(s)) or real(s, report))
    plain = made(stages=2, backend="interpret")
    state, expected = step.init(PARAMS, batch_of(5)), plain.init(PARAMS, batch_of(5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FunpipeWarning)  # of the step that is compiled for each
        for size in (5, 8, 3, 12, 5):
            state, metrics = step(state, batch_of(size))
            expected, same = plain(expected, batch_of(size))
            torch.testing.assert_close(metrics["loss"], same["loss"])
    assert len(sources) == 1 and sources[0] > 0


def test_other_sizes_repeat_the_values_that_there_are():
    found = list(other_sizes(batch_of(4), made(dynamic=1).setup))
    assert [b["x"].shape[1] for b in found] == [8, 2, 5, 3]
    assert torch.equal(found[0]["x"][:, 4:], batch_of(4)["x"]) and torch.equal(found[1]["y"], batch_of(4)["y"][:, :2])


def test_rows_come_in_multiples_of_the_microbatches():
    assert [b["x"].shape[0] for b in other_sizes(batch_of(3, rows=8), made(dynamic=0).setup)] == [16, 4, 10, 6]


@pytest.mark.parametrize("options", [{"backend": "interpret"}, {"backend": "regions"}, {"numerics": "fast"}])
def test_only_the_exact_compiled_step_has_dynamic_sizes(options):
    with pytest.raises(FunpipeTypeError, match=r"dynamic is 1, but backend=.*use backend=\"step\""):
        made(dynamic=1, **options)


def test_a_dimension_that_no_leaf_has_is_an_error():
    with pytest.raises(BatchError, match="dynamic names no dimension"):
        made(dynamic={"x": None, "y": None}).init(PARAMS, batch_of(4))


def test_leaves_that_disagree_are_an_error():
    with pytest.raises(BatchError, match="has 4 rows along dimension 1"):
        made(dynamic={"x": 1, "y": 0}).init(PARAMS, batch_of(4, rows=2))


def test_the_batch_dimension_of_some_leaves_alone_is_an_error():
    with pytest.raises(BatchError, match="the batch dimension of some leaves and another of others"):
        made(dynamic={"x": 1, "y": 0}).init(PARAMS, batch_of(4))


def test_a_model_of_one_size_says_so():
    def fixed(params, batch):
        return (batch["x"] + torch.ones(4, 3)).square().mean() * params["v"].sum()

    step = made(fixed, dynamic=1)
    state = step.init(PARAMS, batch_of(4))
    with pytest.raises(TraceError, match=r"cannot be traced at other sizes.*Leave dynamic out"):
        step(state, batch_of(4))
