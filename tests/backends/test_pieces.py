"""A graph cut into pieces: each is a graph of its own, and equal layers are equal pieces."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe import optim
from funpipe.backends.emit import emit
from funpipe.backends.pieces import pieces, returned
from funpipe.backends.structure import structure
from funpipe.passes import optimize
from funpipe.programs import lower
from funpipe.schedules import GPipe
from funpipe.stages import partition
from funpipe.tracing import trace
from funpipe.tracing.operators import base_of
from tests.backends.random_graphs import graph_of, layers_of_operations, types_of
from tests.backends.repeated import REPEATED

ADAMW = optim.adamw(1e-3)


def pieces_of(name, depth):
    """The structures of the pieces of each graph of a step on one rank, by the graph's name."""
    loss_fn, params, batch = REPEATED[name](depth)
    traced = trace(loss_fn, params, batch)
    programs = optimize(lower(traced, partition(traced, ()), GPipe().table(1, 2), optimizer=ADAMW))
    graphs = emit(programs, 0, ADAMW, 7).graphs
    return {
        n: Counter(structure(p.module.graph, p.types) for p in pieces(g.module, g.types)) for n, g in graphs.items()
    }


def different(found):
    return {name: len(kinds) for name, kinds in found.items()}


@pytest.mark.parametrize(
    ("name", "shallow", "deep"), [("transformer", 4, 24), ("mlp", 4, 24), ("encoder_decoder", 6, 12)]
)
def test_more_equal_layers_are_not_more_different_pieces(name, shallow, deep):
    """What is compiled does not grow with a model's depth: 24 equal blocks are as many pieces as 4."""
    few, many = pieces_of(name, shallow), pieces_of(name, deep)
    assert different(few) == different(many)
    sections = 2 if name == "encoder_decoder" else 1
    for graph in ("F0", "B0"):
        most = [count for _, count in many[graph].most_common(sections)]
        assert sum(most) >= sections * (deep - 2)
        assert few[graph].keys() & many[graph].keys() == many[graph].keys()  # the same code serves both depths


def test_the_pieces_of_a_transformer():
    """Forward: words, block, end. Backward: the end, block, the block that is first and differs, words."""
    assert different(pieces_of("transformer", 4)) == {"scalars": 1, "F0": 3, "B0": 4, "block0": 1}


@pytest.mark.parametrize("depth", [4, 24])
def test_a_chain_of_elementwise_operators_is_not_cut(depth):
    """It is one loop for a compiler; cut, every piece would read and write memory."""
    assert all(sum(kinds.values()) == 1 for kinds in pieces_of("elementwise", depth).values())


@given(layers_of_operations, st.integers(2, 6))
@settings(max_examples=30)
def test_pieces_share_no_memory_and_read_what_is_there(operations, depth):
    module, inputs = graph_of(operations, depth)
    parts = pieces(module, types_of(inputs))
    there = set(module.graph.find_nodes(op="placeholder"))
    for part in parts if len(parts) > 1 else ():
        assert set(part.inputs) <= there
        assert len({base_of(n) for n in (*part.inputs, *part.outputs)}) == len(part.inputs) + len(part.outputs)
        there |= set(part.outputs)
    assert {base_of(n) for n in returned(module.graph)} <= there or len(parts) == 1


@given(layers_of_operations, st.integers(5, 7))
@settings(max_examples=20)
def test_random_layers_are_equal_pieces(operations, depth):
    """One layer more is one piece more, and no different one."""
    counts = []
    for layers in (depth, depth + 1):
        module, inputs = graph_of(operations, layers)
        parts = pieces(module, types_of(inputs))
        counts.append((len(parts), len({structure(p.module.graph, p.types) for p in parts})))
    products = operations.count("product")
    assert counts[1][1] == counts[0][1]
    assert counts[0][0] < counts[1][0] <= counts[0][0] + products


def test_a_graph_that_is_not_cut_is_its_own_piece():
    module, inputs = graph_of(["sine", "save a view"], 1)
    (part,) = pieces(module, types_of(inputs))
    assert part.module is module and part.types == tuple(types_of(inputs))
    assert part.inputs == tuple(module.graph.find_nodes(op="placeholder")) and part.outputs == returned(module.graph)


def test_pieces_know_the_types_of_what_they_read():
    module, inputs = graph_of(["product", "halves"], 4)
    for part in pieces(module, types_of(inputs)):
        found = [n.meta["val"] for n in part.module.graph.find_nodes(op="placeholder")]
        assert types_of(found) == list(part.types)
        assert all(isinstance(t, torch.Tensor) for t in found)
