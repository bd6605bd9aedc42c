"""Small models with repeated layers, as pure functions: `name(depth)` gives loss function, parameters and batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS, LENGTH, WIDTH, HEADS, WORDS = 2, 4, 8, 2, 11


def _weights(*shapes: tuple[int, ...]) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)
    return {f"w{i}": (torch.randn(s, generator=g) / 4).requires_grad_() for i, s in enumerate(shapes)}


def _named(layer: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {f"{name}.{n}": t.detach().clone().requires_grad_() for n, t in layer.items()}


def _own(params: dict[str, Tensor], name: str) -> list[Tensor]:
    return [t for n, t in params.items() if n.startswith(f"{name}.")]


ATTENTION = (
    (WIDTH,),
    (WIDTH,),
    (3 * WIDTH, WIDTH),
    (WIDTH, WIDTH),
    (WIDTH,),
    (WIDTH,),
    (4 * WIDTH, WIDTH),
    (WIDTH, 4 * WIDTH),
)


def block(x: Tensor, weights: list[Tensor], causal: bool) -> Tensor:
    """A pre-norm transformer block; shape (rows, length, width) in and out."""
    gain, bias, qkv, out, gain2, bias2, up, down = weights
    q, k, v = (
        part.view(ROWS, LENGTH, HEADS, WIDTH // HEADS).transpose(1, 2)
        for part in F.linear(F.layer_norm(x, (WIDTH,), gain, bias), qkv).chunk(3, dim=-1)
    )
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(ROWS, LENGTH, WIDTH)
    x = x + F.linear(mixed, out)
    return x + F.linear(F.gelu(F.linear(F.layer_norm(x, (WIDTH,), gain2, bias2), up)), down)


def transformer(depth: int):
    """Words, equal blocks, and the next word."""

    def loss(params, batch):
        x = F.embedding(batch["ids"], params["words"])
        for i in range(depth):
            x = block(x, _own(params, f"l{i}"), causal=True)
        return F.cross_entropy((x @ params["words"].t()).flatten(0, 1), batch["ids"].flatten())

    params = {"words": torch.randn(WORDS, WIDTH).requires_grad_()}
    for i in range(depth):
        params |= _named(_weights(*ATTENTION), f"l{i}")
    return loss, params, {"ids": torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) % WORDS}


def mlp(depth: int):
    """Residual layers."""

    def loss(params, batch):
        x = batch["x"]
        for i in range(depth):
            x = x + F.gelu(F.linear(x, *_own(params, f"l{i}")))
        return F.mse_loss(x, batch["y"])

    params = {n: t for i in range(depth) for n, t in _named(_weights((WIDTH, WIDTH), (WIDTH,)), f"l{i}").items()}
    return loss, params, {"x": torch.ones(ROWS, WIDTH), "y": torch.zeros(ROWS, WIDTH)}


def encoder_decoder(depth: int):
    """Two sections, each with a period of its own; every layer of the second reads what the first made."""

    def loss(params, batch):
        x = F.embedding(batch["ids"], params["words"])
        for i in range(depth):
            x = block(x, _own(params, f"e{i}"), causal=False)
        x = memory = x.flatten(1) @ params["between"]
        for i in range(depth):
            x = x + torch.tanh(F.linear(x * memory, *_own(params, f"d{i}")))
        return x.square().mean()

    params = {"words": torch.randn(WORDS, WIDTH).requires_grad_()}
    params |= {"between": torch.randn(LENGTH * WIDTH, WIDTH).requires_grad_()}
    for i in range(depth):
        params |= _named(_weights(*ATTENTION), f"e{i}") | _named(_weights((WIDTH, WIDTH), (WIDTH,)), f"d{i}")
    return loss, params, {"ids": torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) % WORDS}


def elementwise(depth: int):
    """The same three operators again and again, no library call among them."""

    def loss(params, batch):
        x = batch["x"]
        for _ in range(depth):
            x = torch.tanh(x * params["w"]) + 1
        return x.sum()

    return loss, {"w": torch.ones(WIDTH, requires_grad=True)}, {"x": torch.ones(ROWS, WIDTH)}


REPEATED = {f.__name__: f for f in (transformer, mlp, encoder_decoder, elementwise)}
