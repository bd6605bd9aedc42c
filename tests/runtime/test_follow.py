"""Another graph of the same model is cut where the leaves are."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import StageError
from funpipe.runtime.follow import Follow, holders, operators
from funpipe.stages import partition

PARAMS = {name: torch.ones(3, 3) for name in "abc"}
PLACES = {"param.a": (0,), "param.b": (1,), "param.c": (2,)}


def traced(loss):
    return fp.trace(loss, PARAMS, torch.ones(4, 3), differentiate=False)


def chain(params, x):
    for name in "abc":
        x = torch.tanh(x @ params[name])
    return x.sum()


def stages_of(loss, follow):
    """The leaves and the number of operations of each stage."""
    graph = traced(loss)
    return [
        (s.params, len([n for n in s.F.module.graph.nodes if n.op == "call_function"]))
        for s in partition(graph, follow(graph))
    ]


def test_other_operations_are_cut_late():
    assert stages_of(chain, Follow(PLACES, 3)) == [(("a",), 2), (("b",), 2), (("c",), 3)]


def test_the_same_operations_are_cut_at_the_same_places():
    graph = traced(chain)
    follow = Follow({"param.a": (0,), "param.b": (0, 1), "param.c": (2,)}, 3, (2, 4), operators(graph))
    assert follow(graph) == (2, 4)


def test_the_same_operations_on_other_leaves_are_not():
    """What the cut of the graph that is followed would put into stage 0 reads a leaf of stage 1."""

    def swapped(params, x):
        x = torch.tanh(x @ params["a"]) @ params["a"]
        return torch.tanh(torch.tanh(x) @ params["b"]).sum()

    follow = Follow({"param.a": (0,), "param.b": (1,)}, 2, (2,), operators(traced(swapped)))
    assert stages_of(swapped, follow) == [(("a",), 4), (("b",), 3)]


def test_a_leaf_that_several_stages_hold_is_read_in_any_of_them():
    def tied(params, x):
        return (x @ params["a"] @ params["b"] @ params["a"]).sum()

    assert stages_of(tied, Follow({"param.a": (0, 1), "param.b": (1,)}, 2)) == [(("a",), 1), (("a", "b"), 3)]


def test_stages_without_leaves_get_the_last_operation_before_the_next():
    assert stages_of(chain, Follow({"param.a": (0,), "param.b": (0,), "param.c": (2,)}, 4)) == [
        (("a", "b"), 3),
        ((), 1),
        (("c",), 2),
        ((), 1),
    ]


@pytest.mark.parametrize(
    ("places", "count", "text"),
    [
        ({"param.a": (1,), "param.b": (0,)}, 2, r"in stage 1 or later, .* param b on stage 0\. Use the parameters in"),
        ({"param.a": (1,)}, 2, "no operation is left for stage 0"),
        ({"param.a": (0,), "param.b": (0,), "param.c": (0,)}, 9, "param c on stage 0|no operation is left"),
    ],
)
def test_leaves_in_another_order_are_an_error(places, count, text):
    with pytest.raises(StageError, match=text):
        Follow(places, count)(traced(chain))


def test_holders_are_read_off_a_step():
    def loss(params, batch, *, buffers):
        h = fp.mark_stage_end(batch @ params["a"] * buffers["scale"]) @ params["b"]
        return fp.Out((h @ params["a"]).sum(), buffers=buffers)

    step = fp.train_step(loss, fp.optim.sgd(0.1), backend="interpret")
    kept = {"scale": torch.ones(()), "unread": torch.ones(())}
    step.init(PARAMS, torch.ones(4, 3), buffers=kept)
    lowered = step.lowered
    assert holders(lowered.all.layout, lowered.stages, lowered.schedule, list(kept)) == {
        "param.a": (0, 1),
        "param.b": (1,),
        "param.c": (0,),
        "buffer.scale": (0,),
        "buffer.unread": (0, 1),
    }


def test_a_buffer_is_updated_in_the_stage_that_holds_it():
    def loss(params, x, *, buffers):
        x = torch.tanh(x @ params["a"])
        last = x.detach().sum()
        return fp.Out(torch.tanh(x @ params["b"]).sum(), buffers={"last": last})

    params = {n: p.clone().requires_grad_() for n, p in PARAMS.items()}
    graph = fp.trace(loss, params, torch.ones(4, 3), buffers={"last": torch.tensor(0.0)})
    places = {"param.a": (0,), "param.b": (1,), "buffer.last": (0,)}
    first, _ = partition(graph, Follow(places, 2)(graph))
    assert "buffer.last" in first.results
    with pytest.raises(StageError, match="buffer last on stage 0"):
        Follow(places | {"param.a": (1,)}, 2)(graph)
