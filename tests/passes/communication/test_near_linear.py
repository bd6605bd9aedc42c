"""Passes on a step of 5,000 nodes: below a second, and about four times as long as on a quarter of it."""

import gc
from collections.abc import Callable
from time import process_time

import pytest
import torch

from funpipe._typing import TensorType
from funpipe.functional.communication import OPERATORS, WAIT
from funpipe.graphs import Graph, Node, Ref
from funpipe.passes import Pass, bucket, dedupe, hoist_starts, prefetch_gathers, schedule, sink_waits

aten = torch.ops.aten
KIND = TensorType((16, 16), (16, 1), torch.float32)
PASSES: dict[str, Callable[[], Pass]] = {
    "dedupe": dedupe,
    "bucket": bucket,
    "one bucket": lambda: bucket(1 << 40, 1 << 40),
    "coalesced": lambda: bucket(1 << 40, 1 << 40, "coalesced"),
    "hoist_starts": hoist_starts,
    "sink_waits": sink_waits,
    "schedule": schedule,
    "prefetch_gathers": prefetch_gathers,
    "prefetch_gathers bytes": lambda: prefetch_gathers(None, 1 << 40),
}


def chain(layers: int) -> Graph:
    """A sharded step: for each layer a gather, a product, a sum over replicas, two waits and an update."""
    inputs, nodes, outputs, last = {"batch.x": KIND}, [], {}, "batch.x"
    for i in range(layers):
        inputs[f"state.{i}"] = KIND
        nodes += [
            Node(f"p{i}", OPERATORS.all_gather.default, (Ref(f"state.{i}"), "dp", 1), type=KIND),
            Node(f"w{i}", WAIT, (Ref(f"p{i}"),), type=KIND),
            Node(f"h{i}", aten.mm.default, (Ref(last), Ref(f"w{i}")), type=KIND),
            Node(f"q{i}", OPERATORS.all_reduce.default, (Ref(f"h{i}"), "sum", "dp"), type=KIND),
            Node(f"v{i}", WAIT, (Ref(f"q{i}"),), type=KIND),
            Node(f"u{i}", aten.sub.Tensor, (Ref(f"state.{i}"), Ref(f"v{i}")), type=KIND),
        ]
        outputs[f"state.{i}"], last = Ref(f"u{i}"), f"h{i}"
    return Graph(inputs, tuple(nodes), outputs)


def seconds(each: Pass, layers: int) -> float:
    """The shorter of two runs, in processor time of this process, without that of the garbage collector."""
    times = []
    for _ in range(2):
        graph = chain(layers)
        gc.disable()
        begin = process_time()
        each.fn(graph)
        times.append(process_time() - begin)
        gc.enable()
    return min(times)


@pytest.mark.parametrize("name", PASSES)
def test_time_grows_with_the_number_of_nodes_and_no_faster(name):
    short, long = seconds(PASSES[name](), 210), seconds(PASSES[name](), 840)
    assert long < 1.0
    assert long < 10 * short + 0.05, f"{short:.3f} s for 1,260 nodes, {long:.3f} s for 5,040"
