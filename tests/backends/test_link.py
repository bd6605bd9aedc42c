"""The source that calls the pieces of a graph, run with pieces that are not compiled, does what the graph does."""

import weakref

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe._typing import TensorType
from funpipe.backends import link
from funpipe.backends.emit import Graph
from funpipe.backends.inductor import Built
from funpipe.backends.overlap import in_turns, work
from funpipe.backends.pieces import pieces, returned
from funpipe.tracing.operators import base_of
from tests.backends.random_graphs import OPERATIONS, graph_of, layers_of_operations, types_of


class Played:
    """A graph in pieces, each run operator by operator.

    Args:
        operations: of a layer.
        depth: the number of layers.
    """

    def __init__(self, operations, depth):
        self.module, self.inputs = graph_of(operations, depth)
        self.parts = pieces(self.module, types_of(self.inputs))
        self.made = {}
        self.alive = []
        self.shared = []
        names = {f"piece{i}": self._called(i) for i in range(len(self.parts))}
        self.text = link.source("whole", [self.module.graph], self.parts)
        self.function = link.function_of(self.text, "whole", names)

    def _called(self, index):
        part = self.parts[index]

        def run(arguments):
            taken = list(arguments)
            arguments.clear()
            results = part.module(*taken)
            places = [t.untyped_storage().data_ptr() for t in (*taken, *results)]
            self.shared.append(len(places) - len(set(places)))
            del taken
            self.alive.append({node for node, made in self.made.items() if made() is not None})
            self.made |= {n: weakref.ref(t) for n, t in zip(part.outputs, results, strict=True)}
            return results

        return run

    def run(self):
        """What the linked function and the graph give and write: `(found, expected)`."""
        found, expected = ([t.clone() for t in self.inputs] for _ in range(2))
        results = self.function(list(found))
        return [*results, *found], [*self.module(*expected), *expected]

    def needed_after(self, index):
        """What the pieces behind one read, or the graph returns, of what it and the pieces before have made."""
        made = {n for part in self.parts[:index] for n in part.outputs}
        later = {n for part in self.parts[index + 1 :] for n in part.inputs}
        return made & (later | {base_of(n) for n in returned(self.module.graph)})


@given(layers_of_operations, st.integers(2, 6))
@example(sorted(OPERATIONS), 4)
@settings(max_examples=30)
def test_pieces_one_after_the_other_are_the_graph(operations, depth):
    played = Played(operations, depth)
    if len(played.parts) > 1:
        found, expected = played.run()
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
        assert [(t.shape, t.stride()) for t in found] == [(t.shape, t.stride()) for t in expected]
        assert set(played.shared) == {0}


@given(layers_of_operations, st.integers(2, 6))
@example(sorted(OPERATIONS), 4)
@settings(max_examples=20)
def test_a_value_dies_with_the_last_piece_that_reads_it(operations, depth):
    played = Played(operations, depth)
    if len(played.parts) > 1:
        played.run()
        assert played.alive == [played.needed_after(i) for i in range(len(played.parts))]


def test_inputs_belong_to_the_pieces():
    """The list is emptied, and an input that nothing else reads dies with the piece that reads it."""
    played = Played(["product"], 4)
    inputs = [t.clone() for t in played.inputs]
    first = weakref.ref(inputs[0])
    inner, alive = played.function.__globals__["piece1"], []
    played.function.__globals__["piece1"] = lambda arguments: (alive.append(first() is not None), inner(arguments))[1]
    played.function(inputs)
    assert inputs == [] and alive == [False]


def test_the_source_of_a_linked_graph():
    module, inputs = graph_of(["product"], 2)
    assert link.source("F0", [module.graph], pieces(module, types_of(inputs))) == SOURCE


SOURCE = """def F0(inputs):
    i0, i1, i2, i3, i4, = inputs
    inputs.clear()
    del i3, i4
    arguments = [i0, i1]
    del i0, i1
    t5, = piece0(arguments)
    arguments = [i2, t5]
    del i2, t5
    t6, = piece1(arguments)
    arguments = [t6]
    del t6
    t7, = piece2(arguments)
    return (t7,)
"""


@pytest.fixture
def built(monkeypatch):
    """Stands in for the compiler: every piece runs operator by operator; what was asked for is noted."""
    asked = []

    def build(sources, report):
        asked.extend(sources)
        return [Built(link.one_by_one(source.module), source.name) for source in sources]

    monkeypatch.setattr(link, "build", build)
    return asked


def graph(operations, depth):
    module, inputs = graph_of(operations, depth)
    return Graph(module, tuple(types_of(inputs))), inputs


def test_all_pieces_of_all_graphs_are_built_at_once(built):
    """So that equal ones of different graphs are one, and the number of those that are left is known."""
    (one, first), (other, second) = graph(["product", "sine"], 4), graph(["sine"], 1)
    linked = link.link({"F0": one, "F1": other}, lambda *_: None)
    assert [s.name for s in built] == ["F0"] * len(linked.pieces["F0"]) + ["F1"]
    assert len(linked.pieces["F0"]) >= 4 and len(linked.pieces["F1"]) == 1
    assert list(linked.sources) == ["F0"]
    for name, module, inputs in (("F0", one.module, first), ("F1", other.module, second)):
        found = linked.functions[name]([t.clone() for t in inputs])
        assert all(torch.equal(a, b) for a, b in zip(found, module(*inputs), strict=True))


def test_a_graph_of_single_numbers_is_not_compiled(built):
    """A compile takes seconds, and the optimizer's numbers of a step are a dozen operators on one number each."""
    module = torch.fx.experimental.proxy_tensor.make_fx(lambda step: (0.9**step, step + 1), tracing_mode="fake")(
        torch.tensor(2)
    )
    linked = link.link({"scalars": Graph(module, tuple(types_of([torch.tensor(2)])))}, lambda *_: None)
    assert built == [] and linked.pieces == {"scalars": ()} and linked.sources == {}
    assert [t.item() for t in linked.functions["scalars"]([torch.tensor(2)])] == [pytest.approx(0.81), 3]


def test_a_graph_that_keeps_what_an_input_was_is_not_compiled():
    """A compiler may overwrite the one before it has copied it to the other."""

    def keep(new, bucket, slot):
        old = bucket.clone()
        bucket.copy_(bucket - new)
        slot.copy_(old)
        return ()

    def move(new, bucket, slot):
        bucket.copy_(bucket - new)
        slot.copy_(slot + new)
        return ()

    kind = TensorType((64,), (1,), torch.float32)
    for function, compiled in ((keep, False), (move, True)):
        module = make_fx(function, tracing_mode="fake")(*(torch.zeros(64) for _ in range(3)))
        assert link.keeps_old(Graph(module, (kind, kind, kind))) is not compiled


def test_the_pieces_of_two_graphs_take_turns():
    """As for two regions that overlap: each piece is called with what its own graph gives it."""
    one, other = Played(["product", "product"], 4), Played(["product"], 3)
    order = in_turns(one.parts, other.parts, lambda piece: work(piece.module.graph))
    names = {f"piece{i}": link.one_by_one(part.module) for i, part in enumerate(order)}
    text = link.source("both", [one.module.graph, other.module.graph], order)
    found, expected = ([t.clone() for t in (*one.inputs, *other.inputs)] for _ in range(2))
    results = link.function_of(text, "both", names)(list(found))
    count = len(one.inputs)
    wanted = [*one.module(*expected[:count]), *other.module(*expected[count:])]
    assert len(one.parts) > 1 and len(other.parts) > 1
    assert order[: len(one.parts)] != one.parts
    assert all(torch.equal(a, b) for a, b in zip([*results, *found], [*wanted, *expected], strict=True))
