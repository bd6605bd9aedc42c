"""Attention over short sequences as batched matrix products, forward and backward.

The fused operators walk the scores in tiles, which pays when the scores are many. When those of one head fit in the
cache, batched products with a compiled kernel between them take less time, most of all for narrow heads.

The formulas are those of FlashAttention-2 (Dao, 2023), which the fused operators follow too: with the scores
`S = scale Q K'`, the forward saves `L = log(sum(exp(S)))` of each query. The backward computes `P = exp(S - L)` again:
`dV = P' dO`, `dS = P * (dO V' - sum(dO * O))`, `dQ = scale dS K`, `dK = scale dS' Q`.

Three choices are for speed. The forward has the scores as (keys, queries), so that maxima and sums run along columns,
many queries in one vector. Products whose last dimension would be the size of a head have the sequence there instead,
because libraries are slow on short rows. The scale is multiplied into the queries, which are copied in any case.
"""

import math
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

MOST_SCORES = 64 * 64
"""Of one head; from there on the fused operators take no longer, and need less memory."""


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """In place of `_scaled_dot_product_flash_attention_for_cpu`, whose arguments and results these are.

    Args:
        query: shape (rows, heads, queries, width of a head).
        key: shape (rows, heads, keys, width of a head).
        value: as `key`.
        dropout_p: other than 0, the operator stays.
        is_causal: whether a query sees only the keys up to its own position.
        attn_mask: shape (queries, keys) or what broadcasts to (rows, heads, queries, keys); added to the scores.
        scale: of the scores; one over the root of the width of a head if None.

    Returns:
        The output (as `query`) and the log-sum-exp of the scores, shape (rows, heads, queries); or NotImplemented.
    """
    if not _short(query, key, value, dropout_p, is_causal, attn_mask):
        return NotImplemented
    q, k, v = _heads(query * _scale(query, scale)), _heads(key), _heads(value)
    scores = _apart(torch.bmm(k, q.mT), query)  # (rows, heads, keys, queries)
    if is_causal:
        scores = torch.where(_seen(query, key).mT, scores, -math.inf)
    if attn_mask is not None:
        scores = scores + attn_mask.mT
    largest = scores.amax(2, keepdim=True)
    if attn_mask is not None:  # a query that sees no key has a log-sum-exp and an output of zeros
        largest = torch.where(largest == -math.inf, 0.0, largest)
    weights = torch.exp(scores - largest)
    total = weights.sum(2, keepdim=True)
    if attn_mask is not None:
        total = torch.where(total == 0.0, 1.0, total)
    out = _apart(torch.bmm(v.mT, _heads(weights)), query) / total
    return _laid_out(out.mT, torch.empty_like(query).stride()), _rows_first((largest + total.log()).squeeze(2))


def backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    dropout_p: float,
    is_causal: bool,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """In place of `_scaled_dot_product_flash_attention_for_cpu_backward`, whose arguments and results these are.

    Args:
        grad_out: the gradient of `out`.
        query: as for `forward`, and so `key`, `value`, `dropout_p`, `is_causal`, `attn_mask` and `scale`.
        out: what the forward gave, as this one or the operator.
        logsumexp: what the forward gave.

    Returns:
        The gradients of query, key and value; or NotImplemented.
    """
    if not _short(query, key, value, dropout_p, is_causal, attn_mask):
        return NotImplemented
    factor = _scale(query, scale)
    q, k, v, grad = _heads(query * factor), _heads(key), _heads(value), _heads(grad_out)
    scores = _apart(torch.bmm(q, k.mT), query)  # (rows, heads, queries, keys)
    if is_causal:
        scores = torch.where(_seen(query, key), scores, -math.inf)
    if attn_mask is not None:
        scores = scores + attn_mask
    weights = torch.exp(scores - logsumexp.unsqueeze(-1))
    shared = (grad_out * out).sum(-1, keepdim=True)
    grad_scores = _heads(weights * (_apart(torch.bmm(grad, v.mT), query) - shared))
    grad_query = _apart(torch.bmm(k.mT, grad_scores.mT), query) * factor
    grad_key = _apart(torch.bmm(q.mT, grad_scores), key)
    grad_value = _apart(torch.bmm(grad.mT, _heads(weights)), value)
    return _rows_first(grad_query.mT), _rows_first(grad_key.mT), _rows_first(grad_value.mT)


REWRITES: dict[Any, Any] = {
    aten._scaled_dot_product_flash_attention_for_cpu.default: forward,
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default: backward,
}
"""Operators, and what to trace in their place."""


def _short(query: Tensor, key: Tensor, value: Tensor, dropout: float, causal: bool, mask: Tensor | None) -> bool:
    """Whether the products above compute the operator's results, and in less time."""
    same = query.shape[:2] == key.shape[:2] and query.shape[3] == key.shape[3] and key.shape == value.shape
    floats = query.dtype in (torch.float32, torch.float64) and (mask is None or mask.dtype == query.dtype)
    plain = dropout == 0 and not (causal and mask is not None)
    return same and floats and plain and 0 < query.shape[2] * key.shape[2] <= MOST_SCORES


def _scale(query: Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(query.shape[-1]) if scale is None else scale


def _heads(x: Tensor) -> Tensor:
    """Rows and heads as one batch."""
    return x.reshape(-1, *x.shape[2:])


def _apart(x: Tensor, like: Tensor) -> Tensor:
    """One batch as the rows and heads of another tensor."""
    return x.view(*like.shape[:2], *x.shape[1:])


def _seen(query: Tensor, key: Tensor) -> Tensor:
    """Which keys a query sees, shape (queries, keys); in 32 bits, which compare twice as fast as 64."""
    queries, keys = (torch.arange(t.shape[2], dtype=torch.int32, device=t.device) for t in (query, key))
    return queries.unsqueeze(1) >= keys


def _rows_first(x: Tensor) -> Tensor:
    """The same values, laid out as (rows, sequence, heads, ...)."""
    return _in_rows(x.transpose(1, 2)).transpose(1, 2)


def _laid_out(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """The same values with the given strides, which leave no gaps."""
    order = sorted(range(x.ndim), key=lambda d: -stride[d])
    made = _in_rows(x.permute(order)).permute([order.index(d) for d in range(x.ndim)])
    return made if made.stride() == stride else made.as_strided(x.shape, stride)  # a dimension of size 1 has any stride


def _in_rows(x: Tensor) -> Tensor:
    """A copy; `contiguous` would keep the strides of dimensions of size 1."""
    return x.clone(memory_format=torch.contiguous_format)
