import torch

from funpipe.functional.per_sample import scaled, squared_norms


def loss(params, batch):
    return torch.tanh(batch @ params["w"]).square().mean() * params["c"]


def leaves(dtype=torch.float64):
    made = torch.Generator().manual_seed(0)
    return {"w": torch.randn(3, 2, generator=made, dtype=dtype), "c": torch.tensor(1.5, dtype=dtype)}


LEAVES = leaves()
X = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def found(trained, rows, size=5):
    given = {"params": leaves(), "squares": torch.zeros(size, dtype=torch.float64, requires_grad=True)}
    total = squared_norms(loss, trained)(given, {"batch": X, "row": rows})
    return torch.autograd.grad(total, given["squares"])[0]


def wanted(trained):
    grads = torch.func.vmap(lambda x: torch.func.grad(loss)(LEAVES, x[None]))(X)
    return torch.stack([grads[n].flatten(1).square().sum(1) if n == "w" else grads[n].square() for n in trained]).sum(0)


def test_the_gradient_is_the_squared_norm_of_each_sample():
    torch.testing.assert_close(found(["w", "c"], torch.arange(5)), wanted(["w", "c"]))


def test_frozen_leaves_do_not_count():
    torch.testing.assert_close(found(["w"], torch.arange(5)), wanted(["w"]))


def test_rows_say_where():
    rows = torch.tensor([6, 1, 3, 0, 2])
    squares = found(["w", "c"], rows, 8)
    torch.testing.assert_close(squares[rows], wanted(["w", "c"]))
    assert squares[[4, 5, 7]].eq(0).all()


def test_a_sample_with_a_factor():
    factor = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.25], dtype=torch.float64)
    given = {"batch": X, "factor": factor}
    grads = torch.func.grad(lambda p: scaled(loss)(p, given).loss)(leaves())
    each = torch.func.vmap(lambda x: torch.func.grad(loss)(LEAVES, x[None]))(X)
    torch.testing.assert_close(grads, {n: torch.tensordot(factor, g, 1) / 5 for n, g in each.items()})
    out = scaled(loss)(leaves(), given)
    torch.testing.assert_close(out.loss, loss(leaves(), X))
    assert out.aux["clipped"].value == 3 / 5
