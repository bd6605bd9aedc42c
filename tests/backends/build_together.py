"""Builds graphs while another process does the same, and says what it wrote; a test runs two of it.

The compiler is stood in for by something slow: only who writes what is looked at.
"""

import sys
import time

import torch

from funpipe import _compat
from funpipe.backends.inductor import Source, build
from tests.backends.random_graphs import graph_of, types_of

COUNT = 6


def sources() -> list[Source]:
    """Different graphs, and each of them twice."""
    made = [graph_of(["product"] * (i + 1), 1) for i in range(COUNT)]
    return [Source(f"F{i % COUNT}", module, tuple(types_of(inputs))) for i, (module, inputs) in enumerate(made * 2)]


def slowly(module: torch.fx.GraphModule, *others: object) -> str:
    """Takes the place of the compiler."""
    print(len(list(module.graph.nodes)), flush=True)
    time.sleep(0.2)
    return f"def call(arguments):\n    return {len(list(module.graph.nodes))}\n"


def main() -> None:
    _compat.write_kernels = slowly  # type: ignore[assignment]
    asked = sources()
    print("ready", flush=True)
    sys.stdin.readline()
    found = [built.call([]) for built in build(asked)]
    assert found == [len(list(source.module.graph.nodes)) for source in asked], found


if __name__ == "__main__":
    main()
