"""Models of Hugging Face transformers from small random configurations; nothing is downloaded."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from tests.models.entry import Entry, Given, padded, seeded, tokens

LENGTH, ROWS = 16, 2
SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
}
"""Of every text model; a family adds its own."""

HALVES = {
    **{n: v for n, v in SIZES.items() if n in ("vocab_size", "max_position_embeddings", "pad_token_id", "use_cache")},
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
"""Of models with an encoder and a decoder of two layers each."""


def made(name: str, config: dict[str, Any]) -> nn.Module:
    """A model of the library, in evaluation mode."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{name} needs transformers; install it with pip install 'funpipe[test]'.") from error
    kind = getattr(transformers, name)
    return seeded(lambda: kind(kind.config_class(**config)).eval())


def text_inputs(seed: int, rows: int = ROWS, mask: bool = True, length: int = LENGTH) -> Given:
    """Token ids, a mask with padding, and labels for each token."""
    ids = tokens(seed, rows, length)
    given = {"input_ids": ids, "labels": tokens(seed + 1, rows, length)}
    return (), given | ({"attention_mask": padded(rows, length)} if mask else {})


def pair_inputs(seed: int) -> Given:
    """What goes into an encoder, with a mask, and the labels of a decoder."""
    given = {"input_ids": tokens(seed, ROWS, LENGTH), "attention_mask": padded(ROWS, LENGTH)}
    return (), given | {"labels": tokens(seed + 1, ROWS, 12)}


def layered(layers: str, inside: str = "") -> dict[str, tuple[str, ...]]:
    """The cuts of a model whose four layers are called `layers.0` and so on."""
    four = tuple(f"{layers}.{i}" for i in (1, 2, 3))
    return {"two": (f"{layers}.2",), "four": four, "inside": (f"{layers}.2.{inside}",) if inside else ()}


def text(
    name: str,
    layers: str,
    inside: str = "",
    *,
    sizes: dict[str, Any] = SIZES,
    inputs: Callable[[int], Given] = text_inputs,
    why: str = "",
    **config: Any,
) -> Entry:
    """A model of tokens with four layers in a row."""
    return Entry(name, partial(made, name, {**sizes, **config}), inputs, why=why, **layered(layers, inside))


def pair(
    name: str,
    two: str,
    four: tuple[str, ...],
    inside: str = "",
    *,
    sizes: dict[str, Any] = HALVES,
    inputs: Callable[[int], Given] = pair_inputs,
    why: str = "",
    **config: Any,
) -> Entry:
    """A model with an encoder and a decoder."""
    build = partial(made, name, {**sizes, **config})
    return Entry(name, build, inputs, (two,), four, (inside,) if inside else (), why=why)


def boxes(seed: int) -> torch.Tensor:
    """Where each token is on a page: `int64[rows, length, 4]`, left, top, right, bottom."""
    corners = tokens(seed, ROWS, LENGTH * 4, 500).view(ROWS, LENGTH, 4)
    return torch.cat([corners[..., :2], corners[..., :2] + corners[..., 2:] % 400], -1)
