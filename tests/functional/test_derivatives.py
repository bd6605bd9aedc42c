"""The derivative of a step with collectives is that of the sum of all ranks' outputs.

The reference computes all ranks' values side by side on one device, without collectives, and asks autograd.
"""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe._errors import CommunicationError
from funpipe._typing import MeshShape
from funpipe.functional import all_gather, pmax, pmean, pmin, psum, reduce_scatter
from tests.simulated import nodes, on_ranks, places

TWO = MeshShape(pp=1, dp=2)
MESHES = (TWO, MeshShape(pp=1, dp=3), MeshShape(pp=3, dp=1), MeshShape(pp=2, dp=2))


def rank_values(count, *shape):
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


# The law: any composition


def members(mesh, rank, axis):
    """The ranks that meet a rank on an axis, in order."""
    mine, all_places = places(mesh)[rank], places(mesh)
    fixed = [name for name in ("dp", "pp") if name not in axis]
    return [i for i, place in enumerate(all_places) if all(place[name] == mine[name] for name in fixed)]


def together(kind, xs, mesh, axis, dim):
    """A collective of all ranks' values on one device."""
    groups = [members(mesh, rank, axis) for rank in range(len(xs))]
    if kind == "psum":
        return [sum(xs[i] for i in group) for group in groups]
    if kind == "all_gather":
        return [torch.cat([xs[i] for i in group], dim) for group in groups]
    totals = [sum(xs[i] for i in group).chunk(len(group), dim) for group in groups]
    return [parts[group.index(rank)] for rank, (parts, group) in enumerate(zip(totals, groups, strict=True))]


COLLECTIVES = {
    "psum": lambda x, axis, dim: psum(x, axis),
    "all_gather": all_gather,
    "reduce_scatter": reduce_scatter,
}
LOCAL = {"sin": torch.sin, "square": torch.square, "turn": lambda x: x.transpose(0, 1)}

operations = st.one_of(
    st.sampled_from(sorted(LOCAL)),
    st.tuples(
        st.sampled_from(sorted(COLLECTIVES)), st.sampled_from([("dp",), ("pp",), ("dp", "pp")]), st.sampled_from([0, 1])
    ),
)


def applies(operation, shape, mesh):
    """Whether an operation fits a shape; a value is gathered while it is small, and scattered where it can be."""
    size = len(members(mesh, 0, operation[1]))
    if operation[0] == "reduce_scatter":
        return shape[operation[2]] % size == 0 and shape[operation[2]] > size
    return operation[0] == "psum" or shape.numel() < 200


def on_one_rank(x, scale, program, mesh):
    for operation in program:
        if isinstance(operation, str):
            x = LOCAL[operation](x)
        elif applies(operation, x.shape, mesh):
            x = COLLECTIVES[operation[0]](x, operation[1], operation[2])
        x = x * scale
    return x.sum()


def on_one_device(xs, scales, program, mesh):
    for operation in program:
        if isinstance(operation, str):
            xs = [LOCAL[operation](x) for x in xs]
        elif applies(operation, xs[0].shape, mesh):
            xs = together(operation[0], xs, mesh, operation[1], operation[2])
        xs = [x * scale for x, scale in zip(xs, scales, strict=True)]
    return sum(x.sum() for x in xs)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(MESHES), st.lists(operations, min_size=1, max_size=5), st.booleans())
def test_the_gradient_is_that_of_the_sum_of_all_outputs(mesh, program, functional):
    count = mesh.pp * mesh.dp
    xs, scales = rank_values(count, 6, 4), rank_values(count)

    def gradient(given):
        if functional:
            return torch.func.grad(lambda x: on_one_rank(x, given["scale"], program, mesh))(given["x"])
        x = given["x"].requires_grad_()
        return torch.autograd.grad(on_one_rank(x, given["scale"], program, mesh), x)[0]

    found = on_ranks(gradient, [{"x": x, "scale": s} for x, s in zip(xs, scales, strict=True)], mesh)
    leaves = [x.clone().requires_grad_() for x in xs]
    wanted = torch.autograd.grad(on_one_device(leaves, scales, program, mesh), leaves)
    torch.testing.assert_close(found, list(wanted))


# Rule by rule, and through every transform

RULES = {
    "psum": (lambda x: psum(x, "dp"), lambda xs: [sum(xs)] * 2),
    "pmean": (lambda x: pmean(x, "dp"), lambda xs: [sum(xs) / 2] * 2),
    "all_gather": (lambda x: all_gather(x, "dp"), lambda xs: [torch.cat(xs)] * 2),
    "reduce_scatter": (lambda x: reduce_scatter(x, "dp"), lambda xs: list(sum(xs).chunk(2))),
}
"""Each with what it means on one device."""

jvp_loads_old_code = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
every_rule = pytest.mark.parametrize(("collective", "reference"), RULES.values(), ids=list(RULES))


@pytest.mark.parametrize(
    ("collective", "length", "transpose"),
    [
        ("psum", 4, ["all_reduce", "wait_tensor"]),
        ("pmean", 4, ["div", "all_reduce", "wait_tensor"]),
        ("all_gather", 8, ["reduce_scatter", "wait_tensor"]),
        ("reduce_scatter", 2, ["all_gather", "wait_tensor"]),
    ],
)
def test_the_transpose_of_a_collective_is_one(collective, length, transpose):
    def pullback(x):
        return torch.func.vjp(RULES[collective][0], x["x"])[1](x["g"])[0]

    found = nodes(pullback, {"x": torch.ones(4), "g": torch.ones(length)}, TWO)
    assert [re.sub(r"_\d+$", "", name) for name in found] == transpose


@jvp_loads_old_code
@every_rule
def test_a_forward_derivative_is_the_collective_of_the_tangents(collective, reference):
    xs, tangents = rank_values(4, 4)[:2], rank_values(4, 4)[2:]
    batches = [{"x": x, "t": t} for x, t in zip(xs, tangents, strict=True)]
    found = on_ranks(lambda b: torch.func.jvp(collective, (b["x"],), (b["t"],))[1], batches, TWO)
    torch.testing.assert_close(found, reference(tangents))


@every_rule
def test_a_second_derivative(collective, reference):
    xs = rank_values(2, 4)

    def twice(x):
        return torch.func.grad(lambda y: torch.func.grad(lambda z: collective(z.sin()).pow(3).sum())(y).cos().sum())(x)

    leaves = [x.clone().requires_grad_() for x in xs]
    total = sum(y.pow(3).sum() for y in reference([x.sin() for x in leaves]))
    first = torch.autograd.grad(total, leaves, create_graph=True)
    wanted = torch.autograd.grad(sum(g.cos().sum() for g in first), leaves)
    torch.testing.assert_close(on_ranks(twice, xs, TWO), list(wanted))


@pytest.mark.parametrize("in_dim", [0, 1, 2])
@every_rule
def test_many_at_once_are_one_by_one(collective, reference, in_dim):
    xs = rank_values(2, 4, 4, 4)
    found = on_ranks(lambda x: torch.func.vmap(collective, in_dims=in_dim)(x), xs, TWO)
    for rank, many in enumerate(found):
        one_by_one = zip(*(x.unbind(in_dim) for x in xs), strict=True)
        torch.testing.assert_close(many, torch.stack([reference(list(pair))[rank] for pair in one_by_one]))


def test_many_gradients_at_once():
    xs = rank_values(2, 3, 4)
    found = on_ranks(torch.func.vmap(torch.func.grad(lambda x: all_gather(x.sin(), "dp").prod())), xs, TWO)
    leaves = [x.clone().requires_grad_() for x in xs]
    total = 2 * torch.cat([x.sin() for x in leaves], 1).prod(1).sum()
    torch.testing.assert_close(found, list(torch.autograd.grad(total, leaves)))


def test_integers_inside_a_differentiated_function():
    xs = rank_values(2, 3)
    found = on_ranks(torch.func.grad(lambda x: (psum(x > 0, "dp") * x).sum()), xs, TWO)
    torch.testing.assert_close(found, [sum((x > 0).double() for x in xs)] * 2)


@jvp_loads_old_code
@every_rule
def test_forward_over_reverse(collective, reference):
    xs, tangents = rank_values(4, 4)[:2], rank_values(4, 4)[2:]

    def product(b):
        return torch.func.jvp(torch.func.grad(lambda x: collective(x.sin()).pow(3).sum()), (b["x"],), (b["t"],))[1]

    def total(a, b):
        return sum(y.pow(3).sum() for y in reference([a.sin(), b.sin()]))

    batches = [{"x": x, "t": t} for x, t in zip(xs, tangents, strict=True)]
    wanted = torch.func.jvp(torch.func.grad(total, argnums=(0, 1)), tuple(xs), tuple(tangents))[1]
    torch.testing.assert_close(on_ranks(product, batches, TWO), list(wanted))


@every_rule
def test_many_pullbacks_at_once(collective, reference):
    xs = rank_values(2, 4)

    def pulled_back(x):
        out, pull = torch.func.vjp(lambda y: collective(y.sin()), x)
        return torch.func.vmap(lambda g: pull(g)[0])(torch.stack([out, out.cos()]))

    out, pull = torch.func.vjp(lambda *ys: tuple(reference([y.sin() for y in ys])), *xs)
    rows = [pull(out), pull(tuple(y.cos() for y in out))]
    wanted = [torch.stack(of_rank) for of_rank in zip(*rows, strict=True)]
    torch.testing.assert_close(on_ranks(pulled_back, xs, TWO), wanted)


# What has no derivative


@jvp_loads_old_code
@pytest.mark.parametrize(("collective", "name"), [(pmax, "max"), (pmin, "min")])
@pytest.mark.parametrize("differentiate", [torch.func.grad, lambda f: lambda x: torch.func.jvp(f, (x,), (x,))])
def test_extremes_have_no_derivative(collective, name, differentiate):
    remedy = rf"p{name} has no derivative.* Pass x\.detach\(\) .* \.a{name}\(\) on each rank\."
    with pytest.raises(CommunicationError, match=remedy):
        on_ranks(differentiate(lambda x: collective(x, "dp").sum()), rank_values(2, 3), TWO)


def test_a_detached_extreme_is_a_constant():
    xs = rank_values(2, 3)
    found = on_ranks(torch.func.grad(lambda x: (x * pmax(x.detach(), "dp")).sum()), xs, TWO)
    torch.testing.assert_close(found, [torch.maximum(*xs)] * 2)


@pytest.mark.parametrize("in_dim", [0, 1])
def test_many_extremes_at_once(in_dim):
    xs = rank_values(2, 3, 4)
    found = on_ranks(lambda x: torch.func.vmap(lambda r: pmin(r, "dp"), in_dim, in_dim)(x), xs, TWO)
    torch.testing.assert_close(found, [torch.minimum(*xs)] * 2)
