"""Compares the models in JAX with those in torch, on the torch models' weights; run by a test in its own process.

Prints a JSON object: for each kind of model its loss in torch, its loss in JAX, and both numbers of parameters.
"""

import json
import sys

import torch

from tests.benchmarks.cases import Case, Convolutional, Perceptron, Transformer
from tests.benchmarks.jax_models import loss_of
from tests.benchmarks.jax_weights import weights_of
from tests.benchmarks.models import cross_entropy
from tests.benchmarks.peers_jax import arrays

TINY: dict[str, Case] = {
    "transformer": Transformer(width=8, blocks=2, rows=1, microbatches=2, sequence=4, heads=2, vocabulary=11),
    "mlp": Perceptron(width=6, blocks=2, rows=2, microbatches=2),
    "conv": Convolutional(width=8, blocks=1, rows=1, microbatches=2, side=6),
}


@torch.no_grad()
def compared(case: Case) -> list[float]:
    """Losses and numbers of parameters, torch first, on the whole batch."""
    model, (x, y) = case.model(), case.batch()
    weights = weights_of(model)
    theirs = float(loss_of(case)(weights, *arrays(case, scan=False)))
    sizes = sum(p.numel() for p in model.parameters()), sum(a.size for part in weights.values() for a in part.values())
    return [cross_entropy(model(x), y).item(), theirs, *sizes]


if __name__ == "__main__":
    print(json.dumps({name: compared(TINY[name]) for name in sys.argv[1:] or TINY}))
