import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe.backends.rewrites import attention
from tests.backends.rewrites.graphs import assert_same, called, rewritten_for

aten = torch.ops.aten
FORWARD = aten._scaled_dot_product_flash_attention_for_cpu.default
BACKWARD = aten._scaled_dot_product_flash_attention_for_cpu_backward.default
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}


def projected(rows, heads, length, width, dtype=torch.float32, seed=0):
    """Queries, keys, values or gradients as a model has them: heads next to each other in a row."""
    flat = torch.randn(rows, length, heads * width, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return flat.view(rows, length, heads, width).transpose(1, 2)


def inputs(queries=6, keys=5, heads=3, width=4, dtype=torch.float32):
    return [projected(2, heads, n, width, dtype, seed) for seed, n in enumerate((queries, keys, keys))], projected(
        2, heads, queries, width, dtype, 3
    )


def both(causal=False, scale=None):
    """Forward and backward by the operators."""

    def run(query, key, value, grad, *masks):
        mask = next(iter(masks), None)
        out, logsumexp = FORWARD(query, key, value, 0.0, causal, attn_mask=mask, scale=scale)
        grads = BACKWARD(grad, query, key, value, out, logsumexp, 0.0, causal, attn_mask=mask, scale=scale)
        return out, logsumexp, *grads

    return run


def flashes(module):
    """How many fused operators a graph calls."""
    return sum("flash" in name for name in called(module))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.sampled_from([1, 4, 24]),
    st.booleans(), st.sampled_from([None, 0.3]), st.sampled_from(list(TOLERANCE)),
)  # fmt: skip
def test_forward_and_backward_are_those_of_the_operators(queries, keys, heads, width, causal, scale, dtype):
    qkv, grad = inputs(queries, keys, heads, width, dtype)
    module = assert_same(both(causal=causal, scale=scale), [*qkv, grad], TOLERANCE[dtype])
    assert not flashes(module)


@pytest.mark.parametrize("shape", [(6, 5), (1, 1, 6, 5), (2, 1, 6, 5), (2, 3, 6, 5)])
def test_a_mask_is_added_to_the_scores(shape):
    qkv, grad = inputs()
    mask = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    assert not flashes(assert_same(both(), [*qkv, grad, mask], 2e-6))


def test_a_query_that_sees_no_key_has_zeros():
    qkv, grad = inputs()
    mask = torch.zeros(6, 5)
    mask[2], mask[0, 1:] = -math.inf, -math.inf
    out, logsumexp, *_ = assert_same(both(), [*qkv, grad, mask], 2e-6)(*qkv, grad, mask)
    assert not out[:, :, 2].any() and not logsumexp[:, :, 2].any()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (1, 0, 2, 3)])
def test_the_layout_of_the_output_follows_the_query(order):
    qkv, grad = inputs()
    inverse = [order.index(d) for d in range(4)]
    assert_same(both(), [*(t.permute(order).contiguous().permute(inverse) for t in qkv), grad], 2e-6)


def test_each_direction_reads_what_the_operator_of_the_other_gave():
    qkv, grad = inputs()
    out, logsumexp = FORWARD(*qkv, 0.0, True)
    wanted = BACKWARD(grad, *qkv, out, logsumexp, 0.0, True)
    ours_then_theirs = BACKWARD(grad, *qkv, *attention.forward(*qkv, 0.0, True), 0.0, True)
    torch.testing.assert_close(ours_then_theirs, wanted)
    torch.testing.assert_close(attention.backward(grad, *qkv, out, logsumexp, 0.0, True), wanted)


@pytest.mark.parametrize(("length", "stays"), [(64, False), (65, True)])
def test_many_scores_are_left_to_the_operator(length, stays):
    qkv, grad = inputs(length, length, 1, 8)
    assert bool(flashes(rewritten_for(both(causal=True), [*qkv, grad]))) is stays


def test_other_types_are_left_to_the_operator():
    qkv, grad = inputs(dtype=torch.float64)
    assert flashes(rewritten_for(both(), [t.bfloat16() for t in (*qkv, grad)])) == 2


def test_heads_that_share_keys_are_left_to_the_operator():
    (query, _, _), grad = inputs(heads=4)
    (_, key, value), _ = inputs(heads=2)
    assert flashes(rewritten_for(both(), [query, key, value, grad])) == 2


def test_a_causal_mask_beside_another_is_left_to_the_operator():
    qkv, _ = inputs()
    assert attention.forward(*qkv, 0.0, True, attn_mask=torch.zeros(6, 5)) is NotImplemented


def test_dropout_is_left_to_the_operator():
    qkv, grad = inputs()
    out, logsumexp = FORWARD(*qkv)
    assert attention.forward(*qkv, 0.5) is NotImplemented
    assert attention.backward(grad, *qkv, out, logsumexp, 0.5, False) is NotImplemented
