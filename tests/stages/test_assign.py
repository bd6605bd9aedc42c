import torch
import torch.nn.functional as F

from funpipe.stages import crossing, partition
from funpipe.stages.assign import assign
from funpipe.stages.costs import is_product
from funpipe.stages.sources import Sources
from funpipe.tracing import trace

X = torch.ones(4, 3)


def assigned(loss, params, cuts, batch=X):
    traced = trace(loss, params, batch)
    made = assign(traced, cuts, Sources(traced.graph))
    return made, {n.name: s for n, s in made.stage.items()}, traced


def two_layers(p, x):
    return torch.tanh(torch.tanh(x @ p["a"]) @ p["b"]).sum()


LAYERS = {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}


def test_the_forward_is_cut_by_position():
    _, stage, traced = assigned(two_layers, LAYERS, (2,))
    assert [stage[n.name] for n in traced.forward] == [0, 0, 1, 1, 1]


def test_the_items_of_an_operation_go_with_it():
    _, stage, _ = assigned(lambda p, x: (x @ p).max(1).values.sum(), torch.ones(3, 3), (2,))
    assert (stage["max_1"], stage["getitem"], stage["sum_1"]) == (0, 0, 1)


def test_the_gradient_of_a_leaf_is_made_where_the_leaf_is():
    """Its product reads the batch, which every stage has, and a gradient that a later stage could make."""
    made, stage, traced = assigned(two_layers, LAYERS, (2,))
    assert made.places == {"a": (0,), "b": (1,)}
    assert stage[traced.gradients["a"][0].name] == 0 and stage[traced.gradients["b"][0].name] == 1


def test_each_place_of_a_tied_leaf_is_on_a_stage_of_its_own():
    def loss(p, x):
        h = torch.tanh(x.sin() @ p)
        return (torch.tanh(h @ p) @ p).sum()

    made, _, _ = assigned(loss, torch.ones(3, 3), (3, 5))
    assert made.places == {"": (2, 1, 0)}


def test_a_small_sum_stays_where_its_gradient_is():
    """The bias of the first operation: its gradient is a sum over the rows, and x needs none."""
    params = {"row": torch.ones(1, 3), "a": torch.ones(3, 3)}
    made, stage, traced = assigned(lambda p, x: torch.sin((x + p["row"]) @ p["a"]).sum(), params, (1,))
    assert (made.places["row"], stage[traced.gradients["row"][0].name]) == ((0,), 1)


def test_a_large_gradient_sinks_to_its_leaf():
    """An embedding's gradient has the size of the table, and what it is made from is smaller."""
    params = {"words": torch.ones(100, 3), "a": torch.ones(3, 3)}
    batch = torch.tensor([1, 2])
    made, stage, traced = assigned(
        lambda p, ids: torch.tanh(F.embedding(ids, p["words"]) @ p["a"]).sum(), params, (1,), batch
    )
    assert (made.places["words"], stage[traced.gradients["words"][0].name]) == ((0,), 0)


def test_the_gradient_of_the_input_of_a_tied_head_is_made_where_the_head_is():
    """Its product reads the table, which the embedding's stage has as well, and gradients that are larger than it."""

    def loss(p, ids):
        x = torch.tanh(F.embedding(ids, p["words"]) @ p["a"])
        return F.cross_entropy(x @ p["words"].t(), ids)

    params = {"words": torch.ones(100, 3), "a": torch.ones(3, 3)}
    _, stage, traced = assigned(loss, params, (3,), torch.tensor([1, 2]))
    table = traced.leaves["param", "words"]
    reads = {n: Sources(traced.graph).of(n) for n in traced.backward}
    assert [stage[n.name] for n in traced.backward if is_product(n) and table in reads[n]] == [1]


def test_the_gradient_of_a_leaf_is_made_where_it_is_though_later_stages_read_the_batch_as_well():
    def loss(p, x):
        return (torch.tanh(torch.tanh(x @ p["a"]) @ p["b"]) + x).sum()

    params = {n: torch.ones(3, 3) for n in "ab"}
    _, stage, traced = assigned(loss, params, (2,), torch.ones(64, 3))
    (term,) = Sources(traced.graph).anchors(traced.gradients["a"][:1])
    assert stage[term.name] == 0


def test_the_gradients_of_a_value_that_skips_are_added_once():
    def loss(p, x):
        first = torch.tanh(x @ p["a"])
        return (torch.tanh(torch.tanh(first @ p["b"]) @ p["c"]) * first).sum()

    traced = trace(loss, {n: torch.ones(3, 3) for n in "abc"}, X)
    found = crossing(partition(traced, (2, 4)))
    into_first = [v for v, (maker, readers) in found.items() if 0 in readers]
    assert len(into_first) == 1


def test_gradients_flow_from_later_to_earlier_stages():
    made, _, traced = assigned(two_layers, LAYERS, (1, 2, 3))
    sources, backward = Sources(traced.graph), set(traced.backward)
    for node in (n for n in traced.backward if n in made.stage):
        assert all(made.stage[read] >= made.stage[node] for read in sources.of(node) if read in backward)
