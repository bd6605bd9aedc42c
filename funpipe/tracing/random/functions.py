"""Functions of torch that draw, where a trace wants them otherwise.

In an evaluation dropout is switched off, whatever `training` says. On a GPU attention with dropout is one operator,
which draws by itself: it is written out.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Functions(TorchFunctionMode):
    """Calls other functions in place of some of torch's.

    Args:
        trains: False switches dropout off.
    """

    def __init__(self, trains: bool) -> None:
        super().__init__()
        self.table = _TRAINING if trains else _EVALUATION

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = self.table.get(func)
        return func(*args, **(kwargs or {})) if found is None else found(func, *args, **(kwargs or {}))


def _attention(func: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Attention in single operators where it has dropout; on a CPU it has always been that."""
    given = dict(zip(("attn_mask", "dropout_p", "is_causal"), args, strict=False)) | kwargs
    if not given.get("dropout_p") or query.device.type == "cpu":
        return func(query, key, value, *args, **kwargs)
    return _written_out(query, key, value, **given)


def _written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if enable_gqa:
        groups = query.size(-3) // key.size(-3)
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    scores = (query * (1 / math.sqrt(query.size(-1)) if scale is None else scale)) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is None:
        weights = torch.softmax(scores, -1)
    else:
        masked = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
        weights = torch.ops.aten._safe_softmax.default(masked, -1)  # zeros for a row that may look at nothing
    return torch.native_dropout(weights, dropout_p, True)[0] @ value


def _off(position: int, name: str, value: Any) -> Callable[..., Any]:
    """Calls a function with one argument changed."""

    def call(func: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) > position:
            return func(*args[:position], value, *args[position + 1 :], **kwargs)
        return func(*args, **(kwargs | {name: value}))

    return call


def _recurrent(func: Any, *args: Any) -> Any:
    """A recurrent layer without dropout between its layers: the argument before `train`, one later if it is packed."""
    at = 6 if isinstance(args[4], bool) else 5
    return func(*args[:at], 0.0, *args[at + 1 :])


_TRAINING: dict[Any, Callable[..., Any]] = {F.scaled_dot_product_attention: _attention}

_WITH_TRAINING = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
_WITH_TRAIN = (
    torch.dropout,
    torch.dropout_,
    torch.alpha_dropout,
    torch.alpha_dropout_,
    torch.feature_dropout,
    torch.feature_dropout_,
    torch.feature_alpha_dropout,
    torch.feature_alpha_dropout_,
    torch.native_dropout,
)

_EVALUATION: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys(_WITH_TRAINING, _off(2, "training", False)),
    **dict.fromkeys(_WITH_TRAIN, _off(2, "train", False)),
    F.scaled_dot_product_attention: _off(4, "dropout_p", 0.0),
    F.multi_head_attention_forward: _off(10, "dropout_p", 0.0),
    **dict.fromkeys((torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu), _recurrent),
}
