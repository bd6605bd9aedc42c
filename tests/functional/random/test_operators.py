"""torch's random operators as functions of a key: shapes and dtypes of torch's own, and its distributions."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import funpipe as fp
from funpipe.functional.random.draws import WRITTEN_OUT
from funpipe.functional.random.operators import DRAWN, drawn

aten = torch.ops.aten
KEY = fp.random.key(3)
X = torch.rand(200, 300)

CASES = {
    "rand": (aten.rand.default, ([200, 300],), {}),
    "randn": (aten.randn.default, ([200, 300],), {"dtype": torch.float64}),
    "rand_like": (aten.rand_like.default, (X,), {}),
    "randn_like": (aten.randn_like.default, (X,), {"dtype": torch.bfloat16}),
    "randint": (aten.randint.default, (7, [200, 300]), {}),
    "randint low": (aten.randint.low, (-2, 7, [200, 300]), {"dtype": torch.int32}),
    "randint_like": (aten.randint_like.default, (X, 9), {}),
    "randperm": (aten.randperm.default, (1000,), {}),
    "bernoulli": (aten.bernoulli.default, (X,), {}),
    "bernoulli p": (aten.bernoulli.p, (X, 0.3), {}),
    "bernoulli_": (aten.bernoulli_.float, (X, 0.3), {}),
    "bernoulli_ tensor": (aten.bernoulli_.Tensor, (X, X[0]), {}),
    "uniform_": (aten.uniform_.default, (X, -1.0, 3.0), {}),
    "normal_": (aten.normal_.default, (X, 2.0, 3.0), {}),
    "normal of tensors": (aten.normal.Tensor_Tensor, (X, X + 1), {}),
    "normal of a mean": (aten.normal.Tensor_float, (X, 2.0), {}),
    "exponential_": (aten.exponential_.default, (X, 2.0), {}),
    "log_normal_": (aten.log_normal_.default, (X, 0.0, 0.25), {}),
    "geometric_": (aten.geometric_.default, (X, 0.4), {}),
    "random_ to": (aten.random_.to, (X, 10), {}),
    "random_ of integers": (aten.random_.default, (X.to(torch.int8),), {}),
    "multinomial": (aten.multinomial.default, (X, 3), {}),
    "multinomial again": (aten.multinomial.default, (X, 3, True), {}),
}


def torchs(func, args, kwargs):
    """What torch draws, with arguments of its own."""
    torch.manual_seed(0)
    return func(*(a.clone() if isinstance(a, torch.Tensor) else a for a in args), **kwargs)


@pytest.mark.parametrize("name", CASES)
def test_it_looks_like_torchs(name):
    func, args, kwargs = CASES[name]
    ours, theirs = drawn(func, KEY, args, kwargs), torchs(func, args, kwargs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    ours, theirs = ours.double(), theirs.double()
    error = 6 * (2 / ours.numel()) ** 0.5 * float(theirs.std())
    assert abs(float(ours.mean() - theirs.mean())) < error
    assert abs(float(ours.std() / theirs.std()) - 1) < 0.1


@pytest.mark.parametrize("name", CASES)
def test_another_key_draws_other_numbers(name):
    func, args, kwargs = CASES[name]
    first, again, other = (drawn(func, fp.random.key(seed), args, kwargs) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("replacement", [False, True])
def test_multinomial_draws_by_weight(replacement):
    weights = torch.tensor([0.0, 1.0, 3.0, 4.0]).repeat(20000, 1)
    first = drawn(aten.multinomial.default, KEY, (weights, 2, replacement), {})[:, 0].bincount(minlength=4)
    assert first[0] == 0
    assert torch.allclose(first / 20000, torch.tensor([0, 1, 3, 4]) / 8, atol=0.02)


def test_without_replacement_nothing_comes_twice():
    found = drawn(aten.multinomial.default, KEY, (torch.ones(50, 6), 6), {})
    assert torch.equal(found.sort(-1).values, torch.arange(6).expand(50, 6))


def test_native_dropout_gives_its_mask():
    out, mask = drawn(aten.native_dropout.default, KEY, (X, 0.25, True), {})
    torch.testing.assert_close(out, X * mask / 0.75)
    assert torch.equal(drawn(aten.native_dropout.default, KEY, (X, 0.25, False), {})[0], X)


def test_an_operator_that_is_not_known():
    assert drawn(aten.poisson.default, KEY, (X,), {}) is NotImplemented


def test_all_of_them_are_random_operators():
    tag = torch.Tag.nondeterministic_seeded
    assert [f for f in DRAWN if tag not in f.tags] == []


@pytest.mark.parametrize("operator", WRITTEN_OUT, ids=str)
def test_a_draw_is_one_node_and_equals_what_it_is_made_of(operator):
    cpu = torch.device("cpu")
    args = {
        "random_keep": ([3, 5], 0.5, cpu),
        "random_integers": ([3, 5], 0, 9, torch.int64, cpu),
        "random_permutation": (9, cpu),
    }.get(operator.name().removeprefix("funpipe::"), ([3, 5], torch.float32, cpu))
    traced = make_fx(lambda key: operator(key, *args), tracing_mode="fake")(KEY)
    assert len(traced.graph.nodes) == 3
    written = make_fx(lambda key: operator(key, *args), WRITTEN_OUT, tracing_mode="fake")(KEY)
    assert torch.equal(traced(KEY), written(KEY)) and len(written.graph.nodes) > 50
    assert operator not in {node.target for node in written.graph.nodes}
