"""Two processes give the same order: sets of names come in another order in each, and no pass may follow it."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

from tests.passes.communication.test_random_sequences import PASSES
from tests.passes.random_graphs import random_graph, random_pipeline

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = "from tests.passes.communication.test_determinism import made; print(made())"


def made() -> str:
    """What all passes make of some graphs, as text."""
    texts = []
    for seed in range(6):
        random = Random(seed)
        for graph in (random_graph(random, 60), *random_pipeline(random, 60)):
            texts += [str(make(random).fn(graph)) for make in PASSES]
    return "\n".join(texts)


def test_the_order_is_derived_from_the_graph_alone():
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    other = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, cwd=ROOT, check=True, capture_output=True, text=True
    )
    here = made()
    assert here.count("return") > 500
    assert other.stdout == f"{here}\n"
