"""Derivatives of a pipelined loss, and of its gradient, are what `torch.func` computes on one device."""

import pytest
import torch
from torch.func import grad, grad_and_value, jvp, vjp, vmap

import funpipe as fp
from funpipe._errors import FunpipeTypeError, TreeError
from funpipe.functional.transformed import load_forward_mode
from tests.api import transform_ranks
from tests.api.transform_ranks import criterion, predict, results
from tests.api.transforms import batch_of, params_of, plain

load_forward_mode()
P, V, B = params_of(), params_of(7), batch_of()


@pytest.fixture(scope="module")
def wanted():
    def pulled(params):
        outputs, pull = vjp(lambda p: predict(p, B), params)
        moved = jvp(lambda p: predict(p, B), (params,), (V,))[1]
        return pull(jvp(grad(lambda z: criterion(z, B)), (outputs,), (moved,))[1])[0]

    value, slope = jvp(lambda p: plain(p, B), (P,), (V,))
    hessian = jvp(grad(lambda p: plain(p, B)), (P,), (V,))[1]
    forward = {"jvp": (value, slope), "linearize": (value, slope)}
    return forward | {"hvp": (value, hessian), "ggn_vp": (value, pulled(P))}


def check(found, wanted):
    torch.testing.assert_close({n: found[n] for n in wanted}, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("stages", "schedule"), [(1, "gpipe"), (2, "1f1b"), (4, "1f1b")])
def test_it_is_what_one_device_computes(wanted, stages, schedule):
    check(results(stages=stages, schedule=schedule), wanted)


@pytest.mark.full
def test_compiled(wanted):
    check(results(backend="step"), wanted)


def test_compiled_hessian_vector_product():
    params, along = params_of(layers=2), params_of(7, layers=2)
    found = fp.hvp(plain, stages=2, num_microbatches=2)(params, along, B)[1]
    wanted = jvp(grad(lambda p: plain(p, B)), (params,), (along,))[1]
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


def test_power_iteration_finds_the_largest_eigenvalue():
    params, vector = params_of(layers=1), params_of(7, layers=1)
    hessian = torch.func.hessian(lambda w: plain({**params, "0.w": w}, B))(params["0.w"]).reshape(16, 16)
    product = fp.hvp(plain, num_microbatches=2, backend="interpret")
    frozen = {"0.w": params["0.w"].clone().requires_grad_(), "0.b": params["0.b"]}
    for _ in range(60):
        length = vector["0.w"].norm()
        vector = {n: v / length for n, v in vector.items()}
        image = product(frozen, vector, B)[1]
        found, vector = (vector["0.w"] * image["0.w"]).sum(), image
    largest = max(torch.linalg.eigvalsh(hessian), key=abs)
    torch.testing.assert_close(found, largest, rtol=1e-3, atol=0)


@pytest.fixture(scope="module")
def two():
    return fp.launch(transform_ranks.two_ranks, 2, timeout=240)


@pytest.mark.parametrize("rank", [0, 1])
def test_on_two_processes(two, wanted, rank):
    check(two[rank], wanted)


def test_each_process_keeps_the_tangents_of_its_own_stage(two):
    whole = sum(t.nbytes for t in V.values())
    held = [rank["states"] for rank in two]
    assert sum(held) == whole and min(held) > 0


def test_private_steps_on_two_processes_are_those_of_one(two):
    wanted = transform_ranks.private(stages=4, num_microbatches=4)
    for rank in two:
        torch.testing.assert_close(rank["private"], wanted, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(rank["replicas"], wanted, rtol=1e-9, atol=1e-11)


def test_a_linearization_is_linear_and_maps_over_directions():
    _, f_jvp = fp.linearize(plain, backend="interpret")(P, B)
    assert torch.equal(f_jvp({n: torch.zeros_like(t) for n, t in V.items()}), torch.zeros((), dtype=torch.float64))
    several = fp.stack([V, P])
    torch.testing.assert_close(vmap(f_jvp)(several), torch.stack([f_jvp(V), f_jvp(P)]))
    with pytest.raises(TreeError, match="tangents: missing"):
        f_jvp({"0.w": V["0.w"]})


def test_a_direction_is_traced_once():
    calls = []

    def counted(params, batch):
        calls.append(1)
        return plain(params, batch)

    product = fp.hvp(counted, stages=2, num_microbatches=2, backend="interpret")
    product(P, V, B)
    before = len(calls)
    product(V, P, B)
    assert len(calls) == before


def test_frozen_leaves_and_integers_are_constants():
    def loss(params, batch):
        return (batch["x"] @ params["w"] * params["frozen"] + params["count"]).pow(3).mean()

    params = {"w": torch.ones(4, requires_grad=True), "frozen": torch.tensor(2.0), "count": torch.tensor(1)}
    along = {"w": torch.ones(4), "frozen": torch.tensor(5.0), "count": torch.tensor(0)}
    batch = batch_of(dtype=torch.float32)

    def of_w(w):
        return loss({**params, "w": w}, batch)

    _, found = fp.hvp(loss, backend="interpret")(params, along, batch)
    torch.testing.assert_close(found["w"], jvp(grad(of_w), (torch.ones(4),), (torch.ones(4),))[1])
    assert found["frozen"] == 0 and found["count"] == 0
    slope = fp.jvp(loss, backend="interpret")(params, along, batch)[1]
    torch.testing.assert_close(slope, jvp(of_w, (torch.ones(4),), (torch.ones(4),))[1])


def test_weighted_losses():
    def weighted(params, batch):
        rows = (predict(params, batch) - batch["y"]).square().sum(1)
        weight = (batch["x"][:, 0] > 0).double()
        return fp.Weighted((rows * weight).sum(), weight.sum())

    def whole(params):
        out = weighted(params, B)
        return out.sum / out.weight

    how = {"stages": 2, "num_microbatches": 2, "backend": "interpret"}
    torch.testing.assert_close(fp.jvp(weighted, **how)(P, V, B), jvp(whole, (P,), (V,)))
    torch.testing.assert_close(fp.hvp(weighted, **how)(P, V, B), (whole(P), jvp(grad(whole), (P,), (V,))[1]))


def test_aux_values_come_with_the_gradient():
    def loss(params, batch):
        outputs = predict(params, batch)
        return fp.Out(criterion(outputs, batch), {"largest": fp.max(outputs.max())})

    f = fp.value_and_grad(loss, stages=2, num_microbatches=4, backend="interpret", has_aux=True)
    (value, aux), grads = f(P, B)
    torch.testing.assert_close((grads, value), grad_and_value(plain)(P, B))
    torch.testing.assert_close(aux, {"largest": predict(P, B).max()})


def test_random_numbers_are_those_of_the_loss():
    """A derivative is that of the loss that is trained, dropout and all."""

    def loss(params, batch):
        return plain(params, {**batch, "x": torch.nn.functional.dropout(batch["x"], 0.5)})

    how = {"num_microbatches": 2, "stages": 2, "backend": "interpret"}
    value, slope = fp.jvp(loss, **how)(P, V, B, key=3)
    linear_value, f_jvp = fp.linearize(loss, **how)(P, B, key=3)
    check({"value": value, "slope": slope}, {"value": linear_value, "slope": f_jvp(V)})
    assert not torch.allclose(value, fp.jvp(loss, **how)(P, V, B, key=4)[0])


def test_normalizations():
    """Torch's own gradient of a derivative through a layer or batch normalization is wrong; the other order is not."""

    def loss(params, batch):
        rows = torch.nn.functional.batch_norm(batch["x"] @ params["0.w"], None, None, training=True)
        return plain(params, {**batch, "x": torch.nn.functional.layer_norm(rows + params["0.b"], (4,))})

    _, found = fp.hvp(loss, stages=2, backend="interpret")(P, V, B)
    torch.testing.assert_close(found, jvp(grad(lambda p: loss(p, B)), (P,), (V,))[1])


def test_a_direction_of_another_shape():
    with pytest.raises(TreeError, match=r"tangents: leaf '0\.b' is float64\[5\], but float64\[4\] was expected"):
        fp.jvp(plain, backend="interpret")(P, {**V, "0.b": torch.ones(5, dtype=torch.float64)}, B)


@pytest.mark.parametrize("made", [fp.value_and_grad, fp.jvp, fp.hvp], ids=["value_and_grad", "jvp", "hvp"])
def test_a_transform_around_a_pipeline_is_an_error(made):
    function = made(plain, backend="interpret")
    rest = (B,) if made is fp.value_and_grad else (V, B)
    around = {
        "grad": lambda: grad(lambda p: function(p, *rest)[0])(P),
        "vmap": lambda: vmap(lambda p: function(p, *rest)[0])(fp.stack([P, V])),
        "jvp": lambda: jvp(lambda p: function(p, *rest)[0], (P,), (V,)),
    }
    for call in around.values():
        with pytest.raises(FunpipeTypeError, match=r"inside of a transform of torch\.func .* fp\.jvp, fp\.linearize"):
            call()


def test_a_transform_around_a_training_step_is_an_error():
    step = fp.train_step(plain, fp.optim.sgd(0.1), backend="interpret")
    state = step.init(P, B)
    with pytest.raises(FunpipeTypeError, match="a training step was called inside of a transform"):
        grad(lambda batch: step(state, batch)[1]["loss"])(B)
    with pytest.raises(FunpipeTypeError, match=r"step\.init was called inside of a transform"):
        grad(lambda p: step.init(p, B) and p["0.w"].sum())(P)
    assert step(state, B)[0].step == 1


def test_no_gradient_flows_through_the_results():
    asked = {n: t.clone().requires_grad_() for n, t in P.items()}
    loss, grads = fp.value_and_grad(plain, backend="interpret")(asked, B)
    assert not loss.requires_grad and not any(g.requires_grad for g in grads.values())
