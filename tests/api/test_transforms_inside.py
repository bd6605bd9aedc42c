"""Losses that use transforms inside are, cut and scheduled in any way, what torch computes on one device."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import TraceError
from funpipe.functional.transformed import load_forward_mode
from tests.api.transforms import (
    LOSSES,
    batch_of,
    called_module,
    directional,
    maml,
    module_params,
    net,
    params_of,
    per_sample_norms,
    single_device,
)

load_forward_mode()
CUTS = ((2, "gpipe"), (4, "1f1b"), (4, "zbv"))
EACH = [(loss, *CUTS[i % 3]) for i, loss in enumerate(LOSSES)]


def check(loss_fn, params, batch, microbatches=2, stages=None, schedule="gpipe", backend="interpret", tolerance=1e-9):
    how = {"stages": stages, "schedule": schedule, "backend": backend, "num_microbatches": microbatches}
    found = fp.value_and_grad(loss_fn, **how)(params, batch)
    wanted = single_device(loss_fn, params, batch, microbatches)
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance / 100)


@pytest.mark.parametrize(("loss_fn", "stages", "schedule"), EACH, ids=[loss.__name__ for loss in LOSSES])
def test_it_is_what_one_device_computes(loss_fn, stages, schedule):
    check(loss_fn, params_of(), batch_of(), 4 if schedule == "zbv" else 2, stages, schedule)


@pytest.mark.full
@pytest.mark.parametrize("loss_fn", LOSSES, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("stages", "schedule"), CUTS)
def test_every_one_with_every_cut(loss_fn, stages, schedule):
    check(loss_fn, params_of(), batch_of(), 4, stages, schedule)


@pytest.mark.parametrize("loss_fn", [maml, directional], ids=lambda f: f.__name__)
def test_cut_at_the_marks(loss_fn):
    check(loss_fn, params_of(), batch_of())


def test_single_precision():
    batch, params = batch_of(dtype=torch.float32), params_of(dtype=torch.float32)
    check(per_sample_norms, params, batch, stages=2, tolerance=1e-5)


def test_compiled():
    check(directional, params_of(layers=2), batch_of(), stages=2, backend="step")


@pytest.mark.full
@pytest.mark.parametrize("loss_fn", LOSSES, ids=lambda f: f.__name__)
def test_every_one_compiled(loss_fn):
    check(loss_fn, params_of(), batch_of(), stages=2, backend="step")


@pytest.mark.parametrize("stages", [2, 4])
def test_a_module_with_batch_norm_by_functional_call(stages):
    check(called_module, module_params(), batch_of(), stages=stages)


def test_module_paths_are_known_within_transforms():
    traced = fp.trace(called_module, module_params(), batch_of())
    assert {f"layers.{i}" for i in range(4)} | {"norm"} <= {n.meta["path"] for n in traced.forward}


def test_lines_are_known_within_transforms():
    traced = fp.trace(maml, params_of(), batch_of())
    lines = {str(n.meta["source"]) for n in traced.forward if "mm" in str(n.target)}
    assert lines and all("transforms.py" in line for line in lines)


def test_an_error_within_a_transform_names_the_line():
    def loss(params, batch):
        def one(x):
            return (x @ torch.ones(3)).sum()

        return torch.func.vmap(torch.func.grad(one))(batch["x"]).sum()

    with pytest.raises(TraceError, match=r"test_transforms_inside\.py:\d+: return \(x @ torch\.ones\(3\)\)\.sum\(\)"):
        fp.trace(loss, params_of(), batch_of())


def test_marks_of_a_model_that_a_transform_calls_again():
    traced = fp.trace(maml, params_of(), batch_of())
    names = [mark.name for mark in traced.marks]
    assert names == ["layer0", "layer1", "layer2", "layer0.1", "layer1.1", "layer2.1"]


def test_a_second_order_gradient_differs_from_the_first_order_one():
    """The inner gradient is not taken for a constant: that of first-order MAML is another one."""

    def first_order(params, batch):
        inner = torch.func.grad(lambda p: net(p, batch["x"]).square().mean())(params)
        return net({n: p - 0.5 * inner[n].detach() for n, p in params.items()}, batch["x"]).square().mean()

    def second_order(params, batch):
        inner = torch.func.grad(lambda p: net(p, batch["x"]).square().mean())(params)
        return net({n: p - 0.5 * inner[n] for n, p in params.items()}, batch["x"]).square().mean()

    grads = [fp.value_and_grad(f, backend="interpret")(params_of(), batch_of())[1] for f in (first_order, second_order)]
    assert not torch.allclose(grads[0]["0.w"], grads[1]["0.w"], rtol=1e-3)
