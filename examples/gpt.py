"""A small GPT over bytes, and sampling from it: a plain module that knows nothing of how it is trained."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VOCABULARY = 256


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then a multilayer perceptron, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


class GPT(nn.Module):
    """A transformer decoder.

    Args:
        context: the most bytes it sees.
        width: of the residual stream; a multiple of `heads`.
        layers: number of blocks.
        heads: attention heads of each block.
    """

    def __init__(self, context: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.context = context
        self.token = nn.Embedding(VOCABULARY, width)
        self.position = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        self._initialize(layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `[rows, length, 256]` of the byte after each of `[rows, length]`."""
        x = self.token(tokens) + self.position[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))

    def _initialize(self, layers: int) -> None:
        """As GPT-2: small weights, those that write into the residual stream smaller the deeper the model is."""
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                into_stream = name.endswith(("out.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * layers) ** 0.5 if into_stream else 0.02)


@torch.no_grad()
def sample(model: GPT, prompt: bytes, length: int, seed: int, temperature: float = 0.8) -> bytes:
    """The prompt and `length` bytes after it, drawn one by one."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.tensor([list(prompt)])
    for _ in range(length):
        logits = model(text[:, -model.context :])[:, -1]
        following = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
        text = torch.cat([text, following], dim=1)
    return bytes(text[0].tolist())
