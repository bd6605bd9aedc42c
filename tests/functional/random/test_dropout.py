"""Dropout with a key, alone and under transforms and the compiler."""

import pytest
import torch

import funpipe as fp

KEY = fp.random.key(11)

# What jvp and the compiler load of torch is older than its own warnings.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")


def test_the_mean_stays():
    x = torch.ones(1 << 16, dtype=torch.float64)
    assert abs(float(fp.random.dropout(KEY, x, 0.3).mean()) - 1) < 4 * (0.3 / 0.7 / len(x)) ** 0.5


def test_no_and_full_dropout():
    x = torch.randn(5, 3)
    assert torch.equal(fp.random.dropout(KEY, x, 0.0), x)
    assert torch.equal(fp.random.dropout(KEY, x, 1.0), torch.zeros_like(x))


def test_its_derivative_has_the_mask_of_its_value():
    x = torch.randn(7, dtype=torch.float64)
    mask = fp.random.dropout(KEY, torch.ones_like(x), 0.4)
    value, gradient = torch.func.vjp(lambda x: fp.random.dropout(KEY, x, 0.4), x)
    assert torch.equal(value, x * mask)
    assert torch.equal(gradient(torch.ones_like(x))[0], mask)
    assert torch.equal(torch.func.jvp(lambda x: fp.random.dropout(KEY, x, 0.4), (x,), (x,))[1], x * mask)


def test_a_key_for_each_row():
    keys, x = fp.random.split(KEY, 3), torch.randn(3, 8)
    rows = torch.func.vmap(fp.random.dropout)(keys, x)
    assert torch.equal(rows, torch.stack([fp.random.dropout(k, r) for k, r in zip(keys, x, strict=True)]))


@pytest.mark.full
def test_compiled_it_has_the_same_bits():
    x = torch.randn(1000)
    compiled = torch.compile(lambda key, x: (fp.random.dropout(key, x, 0.25), fp.random.uniform(key, (33,))))
    dropped, drawn = compiled(KEY, x)
    assert torch.equal(dropped, fp.random.dropout(KEY, x, 0.25))
    assert torch.equal(drawn, fp.random.uniform(KEY, (33,)))


def test_keys_without_values():
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(lambda key, x: fp.random.dropout(key, x), tracing_mode="fake")(KEY, torch.randn(6))
    x = torch.randn(6)
    assert torch.equal(graph(KEY, x), fp.random.dropout(KEY, x))
