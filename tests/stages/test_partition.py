import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from funpipe._errors import StageError
from funpipe.functional import Out, last
from funpipe.stages import balanced, crossing, partition, split_at
from funpipe.tracing import trace
from tests.stages.region_values import run_regions
from tests.tracing.gpt import gpt

X = torch.linspace(0, 1, 12).view(4, 3)


def chain(p, x):
    return torch.tanh(torch.tanh(x @ p["a"]) @ p["b"]).sum()


CHAIN = {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}


def position(traced, name):
    return [n.name for n in traced.forward].index(name)


def values_of(traced, stages, params, batch):
    leaves = {f"param.{n}": t.detach() for n, t in params.items()}
    leaves |= {f"batch.{n}": t for n, t in (batch if isinstance(batch, dict) else {"": batch}).items()}
    return run_regions(stages, leaves | {f"const.{n}": t for n, t in traced.consts.items()})


# What stages hold


def test_each_stage_owns_the_parameters_it_uses():
    traced = trace(chain, CHAIN, X)
    stages = partition(traced, (2,))
    assert [(s.params, s.owned) for s in stages] == [(("a",), ("a",)), (("b",), ("b",))]


def test_a_tied_leaf_is_owned_by_the_stage_that_uses_it_first():
    loss, params, batch = gpt(blocks=2)
    traced = trace(loss, params, batch)
    first, second = partition(traced, split_at({"layers.1": "beginning"})(traced))
    assert "words.weight" in first.owned
    assert "words.weight" in second.params and "words.weight" not in second.owned
    # Trace order is the backward's: the head's place comes first.
    assert [i for i, _ in second.terms["words.weight"]] == [0]
    assert [i for i, _ in first.terms["words.weight"]] == [1]


def test_frozen_and_unread_leaves_are_owned_by_none():
    params = {n: t.clone().requires_grad_(n == "a") for n, t in CHAIN.items()} | {"unread": torch.ones(1)}
    stages = partition(traced := trace(chain, params, X), (2,))
    assert traced.frozen == {"b", "unread"}
    assert [(s.params, s.owned) for s in stages] == [(("a",), ("a",)), (("b",), ())]


def test_the_loss_is_a_result_of_the_last_stage():
    stages = partition(trace(chain, CHAIN, X), (2,))
    assert [dict(s.results) for s in stages] == [{}, {"loss": "sum_1"}]


def test_an_evaluation_has_no_backward():
    stages = partition(trace(chain, CHAIN, X, differentiate=False), (2,))
    assert [s.B for s in stages] == [None, None]


# What crosses


def test_one_value_forward_and_its_gradient_back():
    stages = partition(trace(chain, CHAIN, X), (2,))
    assert stages[0].F.outputs == ("tanh",)
    found = crossing(stages)
    (back,) = found.keys() - {"tanh"}
    assert found == {"tanh": (0, (1,)), back: (1, (0,))}
    assert stages[1].B.types[back].shape == (4, 3)


def test_a_block_of_a_gpt_gives_one_tensor_and_takes_one():
    loss, params, batch = gpt(blocks=4)
    traced = trace(loss, params, batch)
    points = {f"layers.{i}": "beginning" for i in (1, 2, 3)}
    found = crossing(partition(traced, split_at(points)(traced)))
    assert sorted(found.values()) == [(0, (1,)), (1, (0,)), (1, (2,)), (2, (1,)), (2, (3,)), (3, (2,))]


def test_a_value_that_skips_stages_goes_straight_to_each_reader():
    def loss(p, x):
        first = torch.tanh(x @ p["a"])
        h = torch.tanh(first @ p["b"])
        h = torch.tanh(h @ p["c"])
        return (h * first).sum()

    traced = trace(loss, {n: torch.ones(3, 3) for n in "abc"}, X)
    cuts = tuple(position(traced, n) for n in ("mm_1", "mm_2", "mul"))
    found = crossing(partition(traced, cuts))
    assert found["tanh"] == (0, (1, 3))
    # The gradient that skips back is made where the value is that it needs besides, and goes straight to its reader.
    assert {readers for maker, readers in found.values() if maker == 3} == {(2,)}
    assert [readers for maker, readers in found.values() if maker == 2].count((1,)) == 2


def test_views_are_taken_again_and_their_base_is_saved():
    def loss(p, x):
        left, right = torch.tanh(x @ p["a"]).chunk(2, 1)
        return torch.tanh(left @ p["b"] + right).sum()

    traced = trace(loss, {"a": torch.ones(3, 4), "b": torch.ones(2, 2)}, X)
    stages = partition(traced, (position(traced, "mm_1"),))
    assert stages[0].F.outputs == ("tanh",)
    assert "split" in stages[1].F.as_text()


def test_a_cut_between_a_copy_and_its_hidden_view():
    traced = trace(lambda p, x: (x @ p).t().reshape(6, 2).tanh().sum(), torch.ones(3, 3), X)
    for cut in range(1, len(traced.forward)):
        if traced.forward[cut - 1].name in ("mm", "clone", "_unsafe_view", "tanh"):
            values_of(traced, partition(traced, (cut,)), {"": torch.ones(3, 3)}, X)


def test_constants_are_made_again():
    def loss(p, x):
        mask = torch.arange(3) > 0
        h = torch.tanh(x @ p["a"]) * mask
        return (torch.tanh(h @ p["b"]) * mask).sum()

    traced = trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 3)}, X)
    stages = partition(traced, (position(traced, "mm_1"),))
    assert all("arange" in s.F.as_text() for s in stages)
    assert {maker for maker, _ in crossing(stages).values()} == {0, 1} and len(crossing(stages)) == 2


def test_leaves_are_neither_sent_nor_saved():
    loss, params, batch = gpt(blocks=3)
    traced = trace(loss, params, batch)
    for stage in partition(traced, balanced(3)(traced)):
        for name in (*stage.F.outputs, *stage.B.outputs):
            assert name.partition(".")[0] not in ("param", "batch", "const", "buffer")


def test_masks_and_indices_may_cross():
    def loss(p, x):
        h = x @ p["a"]
        keep, best = h > 0, h.argmax(1)
        return (torch.where(keep, torch.tanh(h), 0.0) + F.embedding(best, p["b"])).sum()

    traced = trace(loss, {"a": torch.eye(3), "b": torch.ones(3, 3)}, X)
    stages = partition(traced, (position(traced, "tanh"),))
    types = {stages[0].F.types[v].dtype for v in crossing(stages) if v in stages[0].F.outputs}
    assert types == {torch.float32, torch.bool, torch.int64}
    values_of(traced, stages, {"a": torch.eye(3), "b": torch.ones(3, 3)}, X)


# What regions promise


@pytest.mark.parametrize("num_stages", [1, 2, 5])
def test_the_outputs_of_a_region_have_memory_of_their_own(num_stages):
    loss, params, batch = gpt(blocks=2)
    traced = trace(loss, params, batch)
    stages = partition(traced, balanced(num_stages)(traced))
    values = values_of(traced, stages, params, batch)
    found = sum(values[v] for s in stages for _, v in s.terms.get("words.weight", ()))
    leaves = {n: t.detach().requires_grad_() for n, t in params.items()}
    (wanted,) = torch.autograd.grad(loss(leaves, batch), leaves["words.weight"])
    torch.testing.assert_close(found, wanted)


def test_results_that_are_leaves_or_views_of_each_other_are_copied():
    def loss(p, x):
        h = torch.tanh(x @ p["a"])
        aux = {"x": last(x), "w": last(p["a"].detach()), "h": last(h.detach()), "row": last(h.detach()[0])}
        return Out(h.sum(), aux=aux)

    traced = trace(loss, CHAIN, X)
    for cuts in ((), (1,), (2,)):
        stages = partition(traced, cuts)
        values = values_of(traced, stages, CHAIN, X)
        names = {n: v for s in stages for n, v in s.results.items()}
        assert torch.equal(values[names["aux.x"]], X) and torch.equal(values[names["aux.w"]], CHAIN["a"])
        assert torch.equal(values[names["aux.row"]], values[names["aux.h"]][0])


def test_a_gradient_that_another_stage_computes_is_passed_on_under_its_own_name():
    """The sum over the rows is smaller than what it adds up, and is made where that is; its leaf is elsewhere."""
    params = {"row": torch.ones(1, 3), "a": torch.ones(3, 3), "b": torch.ones(3, 3)}
    traced = trace(lambda p, x: (torch.sin((x + p["row"]) @ p["a"]) @ p["b"]).sum(), params, X)
    stages = partition(traced, (1,))
    values = values_of(traced, stages, params, X)
    ((_, term),) = stages[0].terms["row"]
    assert term not in stages[0].B.inputs and values[term].shape == (1, 3)


def test_a_gradient_that_several_stages_expand_again_has_a_name_in_each():
    """The gradient of a sum of additions is the same expanded number on every stage."""
    params = {n: torch.ones(4, 3) for n in "ab"}
    traced = trace(lambda p, x: (torch.add(x, p["a"]) + p["b"]).sum(), params, X)
    stages = partition(traced, (1,))
    values = values_of(traced, stages, params, X)
    names = [value for stage in stages for places in stage.terms.values() for _, value in places]
    assert len(set(names)) == 2
    assert all(torch.equal(values[name], torch.ones(4, 3)) for name in names)


def test_a_checkpoint_cut_in_two():
    """Its second half is computed again by the first stage, from what that has saved, and so is the gradient of `b`,
    which only the second stage's forward reads. It was once to flow up the pipeline, where no backward takes it."""

    def loss(p, x):
        return checkpoint(lambda y: torch.tanh(torch.sin(y @ p["a"]) @ p["b"]), x.exp(), use_reentrant=False).sum()

    params = {"a": torch.eye(3), "b": torch.ones(3, 3)}
    traced = trace(loss, params, X)
    stages = partition(traced, (position(traced, "mm_1"),))
    ((_, term),) = stages[0].terms["b"]
    assert stages[1].owned == ("b",) and "b" not in stages[1].terms
    leaves = {n: t.clone().requires_grad_() for n, t in params.items()}
    wanted = torch.autograd.grad(loss(leaves, X), leaves["b"])[0]
    torch.testing.assert_close(values_of(traced, stages, params, X)[term], wanted)


# Buffers


def running(p, x, *, buffers):
    h = torch.tanh(x @ p["a"])
    new = buffers["mean"] * 0.9 + h.detach().mean(0)
    return Out(torch.tanh(h @ p["b"]).sum(), buffers={"mean": new})


def test_a_buffer_read_and_updated_by_one_stage():
    traced = trace(running, CHAIN, X, buffers={"mean": torch.ones(3)})
    stages = partition(traced, (position(traced, "mm_1"),))
    assert "buffer.mean" in stages[0].results and "buffer.mean" in stages[0].F.inputs


def test_a_buffer_updated_in_one_stage_and_read_in_another_is_refused():
    traced = trace(running, CHAIN, X, buffers={"mean": torch.ones(3)})
    between = position(traced, traced.outputs["buffer.mean"].name)
    with pytest.raises(StageError, match=r"the buffer 'mean' is updated in stage 1 and read in stage 0: .* Cut else"):
        partition(traced, (between,))


def test_a_buffer_that_another_stage_reads_in_its_backward_is_refused():
    """The checkpoint is computed again where its input is, with the buffer as it was."""

    def loss(p, x, *, buffers):
        def block(y):
            return torch.tanh(torch.sin(y @ p["a"]) @ p["b"] * buffers["scale"])

        return Out(checkpoint(block, x.exp(), use_reentrant=False).sum(), buffers={"scale": buffers["scale"] * 0.9})

    traced = trace(loss, {"a": torch.eye(3), "b": torch.ones(3, 3)}, X, buffers={"scale": torch.ones(3)})
    assert len(partition(traced, ())) == 1
    with pytest.raises(StageError, match=r"the buffer 'scale' is updated in stage 1 and read in stage 0"):
        partition(traced, (position(traced, "mm_1"),))


def test_a_buffer_that_is_only_read_may_be_read_everywhere():
    def loss(p, x, *, buffers):
        h = torch.tanh(x @ p["a"]) * buffers["scale"]
        return Out((torch.tanh(h @ p["b"]) * buffers["scale"][:2]).sum(), buffers=buffers)

    traced = trace(loss, CHAIN, X, buffers={"scale": torch.ones(3)})
    stages = partition(traced, (position(traced, "mm_1"),))
    assert all("buffer.scale" in s.F.inputs for s in stages)
    assert not any(n.startswith("buffer.") for s in stages for n in s.results)


# Bad cuts


@pytest.mark.parametrize("cuts", [(0,), (5,), (2, 2), (3, 1), (-1,)])
def test_cuts_that_leave_a_stage_empty(cuts):
    traced = trace(chain, CHAIN, X)
    assert len(traced.forward) == 5
    with pytest.raises(StageError, match=r"stage \d is empty: the cuts .* of 5 operations\. Move the cut so that"):
        partition(traced, cuts)


def test_a_stage_of_views_alone():
    traced = trace(lambda p, x: (x @ p["a"]).t()[0].tanh().sum(), CHAIN, X)
    with pytest.raises(StageError, match=r"stage 1 is empty: between its cuts \(1, 3\) there are only views"):
        partition(traced, (1, 3))


def test_one_stage_of_views_alone_is_fine():
    (stage,) = partition(trace(lambda p, x: p["a"][0, 0], CHAIN, X), ())
    assert stage.results.keys() == {"loss"}


def test_leaves_whose_names_differ_in_a_dot_are_returned_under_names_of_their_own():
    def loss(params, batch):
        seen = {"dotted": last(batch["a"]["b"]), "joined": last(batch["a_b"])}
        return Out((batch["a"]["b"] @ params["w"] * batch["a_b"].mean()).sum(), aux=seen)

    traced = trace(loss, {"w": torch.ones(3, 2)}, {"a": {"b": X}, "a_b": 2 * X})
    (stage,) = partition(traced, ())
    assert len(set(stage.F.outputs)) == len(stage.F.outputs)
    assert stage.results["aux.dotted"] != stage.results["aux.joined"]
