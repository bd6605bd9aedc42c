import pytest
import torch

import funpipe as fp
from funpipe.functional.tangents import curvature, directional, value_of

W = {"a": torch.tensor([[0.3, -0.2], [0.5, 0.1]]), "b": torch.tensor([0.2, 0.4])}
V = {"a": torch.tensor([[1.0, 0.0], [-1.0, 2.0]]), "b": torch.tensor([0.5, -0.5])}
X = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]])


def predict(params, batch):
    return torch.tanh(batch @ params["a"]) @ params["b"]


def criterion(outputs, batch):
    return outputs.exp().mean()


def loss(params, batch):
    return criterion(predict(params, batch), batch)


def combined(out):
    return value_of({name: value.value for name, value in out.aux.items()})


def test_the_derivative_along_a_direction():
    value, slope = torch.func.jvp(lambda p: loss(p, X), (W,), (V,))
    out = directional(loss)({"params": W, "tangents": V}, X)
    torch.testing.assert_close((combined(out), out.loss), (value, slope))


def test_its_gradient_is_the_hessian_by_the_direction():
    wanted = torch.func.jvp(torch.func.grad(loss), (W, X), (V, torch.zeros_like(X)))[1]
    found = torch.func.grad(lambda p: directional(loss)({"params": p, "tangents": V}, X).loss)(W)
    torch.testing.assert_close(found, wanted)


def test_leaves_without_a_tangent_are_constants():
    wanted = torch.func.jvp(lambda b: loss(W | {"b": b}, X), (W["b"],), (V["b"],))[1]
    torch.testing.assert_close(directional(loss)({"params": W, "tangents": {"b": V["b"]}}, X).loss, wanted)


def test_a_weighted_loss_stays_weighted():
    def weighted(params, batch):
        return fp.Weighted(predict(params, batch).exp().sum(), torch.tensor(3))

    out = directional(weighted)({"params": W, "tangents": V}, X)
    value, slope = torch.func.jvp(lambda p: loss(p, X), (W,), (V,))
    torch.testing.assert_close((combined(out), out.loss.sum / out.loss.weight), (value, slope))


def test_buffers_come_back():
    def counting(params, batch, *, buffers):
        return fp.Out(loss(params, batch), buffers={"n": [buffers["n"][0] + 1]})

    out = directional(counting)({"params": W, "tangents": V}, X, buffers={"n": [torch.tensor(1)]})
    assert out.buffers["n"][0] == 2


def test_curvature_is_the_jacobian_around_the_hessian_of_the_criterion():
    jacobian = torch.func.jacrev(predict)(W, X)
    flat = torch.cat([jacobian["a"].flatten(1), jacobian["b"]], 1)
    along = torch.cat([V["a"].flatten(), V["b"]])
    matrix = flat.T @ torch.func.hessian(criterion)(predict(W, X), X) @ flat
    found = torch.func.grad(lambda p: curvature(predict, criterion)({"params": p, "tangents": V}, X).loss)(W)
    torch.testing.assert_close(torch.cat([found["a"].flatten(), found["b"]]), matrix @ along)
    torch.testing.assert_close(combined(curvature(predict, criterion)({"params": W, "tangents": V}, X)), loss(W, X))


@pytest.mark.parametrize("made", [directional(loss), curvature(predict, criterion)])
def test_it_is_linear_in_the_tangents(made):
    def at(factor):
        tangents = {n: factor * t for n, t in V.items()}
        return torch.func.grad(lambda p: made({"params": p, "tangents": tangents}, X).loss)(W)

    torch.testing.assert_close(at(3.0), {n: 3 * g for n, g in at(1.0).items()})
