import pytest
import torch
import torch.nn.functional as F
from torch import nn

from funpipe.functional import functionalize
from funpipe.stages import bytes_for_weights, partition, rematerialise, saved_bytes, split_backward
from funpipe.stages.stage import Region, Stage
from funpipe.tracing import trace
from tests.stages.region_values import run_halves, run_regions

X = torch.linspace(0, 1, 12).view(4, 3)
CHAIN = {"a": torch.ones(3, 3) / 3, "b": torch.ones(3, 2) / 2}


def chain(p, x):
    return torch.tanh(torch.tanh(x @ p["a"]) @ p["b"]).sum()


def operators(region: Region) -> list[str]:
    """The operators of a region, but for views and the items of several results."""
    names = (getattr(n.target, "__name__", "") for n in region.module.graph.nodes if n.op == "call_function")
    return [n.removesuffix(".default") for n in names if n != "getitem" and not n.startswith(("t.", "view", "expand"))]


def split_at_marks(traced, *names) -> tuple[Stage, ...]:
    position = {n.name: i for i, n in enumerate(traced.forward)}
    return split_backward(partition(traced, tuple(position[n] for n in names)))


def assert_same_bits(stages, traced, params, batch) -> None:
    leaves = {f"param.{n}": t.detach() for n, t in params.items()} | {"batch.": batch}
    leaves |= {f"const.{n}": t for n, t in traced.consts.items()}
    whole, halves = run_regions(stages, leaves), run_halves(stages, leaves)
    for stage in stages:
        for leaf, places in stage.terms_in("W").items():
            for (_, new), (_, old) in zip(places, stage.terms[leaf], strict=True):
                assert torch.equal(halves[new], whole[old]), leaf


# What is where


def test_the_product_for_the_inputs_is_in_i_and_the_one_for_the_weights_in_w():
    traced = trace(chain, CHAIN, X)
    first, last = split_at_marks(traced, "mm_1")
    assert operators(last.I).count("mm") == operators(last.W).count("mm") == 1
    assert last.I.outputs[0] in first.B.inputs
    assert set(last.W.outputs) == {value for places in last.terms.values() for _, value in places}
    assert_same_bits((first, last), traced, CHAIN, X)


def test_w_reads_what_i_leaves_and_what_was_saved():
    _, last = split_at_marks(trace(chain, CHAIN, X), "mm_1")
    left = [name for name in last.W.inputs if name in last.I.outputs]
    assert left == ["tanh_backward_of_I1"]  # the gradient behind the last tanh: both products read it
    assert set(last.W.inputs) - set(left) <= {*last.F.outputs, *last.F.inputs}


def test_the_first_stage_has_all_its_work_in_w():
    first, _ = split_at_marks(trace(chain, CHAIN, X), "mm_1")
    assert first.I is None
    assert operators(first.W) == operators(first.B)
    assert (first.W.inputs, first.W.outputs) == (first.B.inputs, first.B.outputs)


def test_a_single_stage_has_no_i():
    (only,) = split_backward(partition(trace(chain, CHAIN, X), ()))
    assert only.I is None and only.W is not None


def test_frozen_weights_leave_nothing_for_w():
    params = CHAIN | {"a": CHAIN["a"].clone().requires_grad_(), "b": CHAIN["b"]}
    _, last = split_at_marks(trace(chain, params, X), "mm_1")
    assert last.W is None
    assert operators(last.I) == operators(last.B)


def test_an_evaluation_has_nothing_to_split():
    stages = partition(trace(chain, CHAIN, X, differentiate=False), (2,))
    assert split_backward(stages) == stages


def test_what_is_split_is_left_as_it_is():
    stages = split_at_marks(trace(chain, CHAIN, X), "mm_1")
    assert split_backward(stages) == stages


def test_the_bytes_that_are_held_for_w():
    first, last = split_at_marks(trace(chain, CHAIN, X), "mm_1")
    assert bytes_for_weights(first) == 4 * (4 * 3)  # what the forward saved; the gradient comes when W runs
    assert bytes_for_weights(last) == 4 * (4 * 3 + 4 * 2)
    whole = partition(trace(chain, CHAIN, X), ())
    assert bytes_for_weights(whole[0]) == 0


# Operators with several results


def test_layer_normalization_leaves_its_small_gradients_to_w():
    params = {"a": torch.randn(3, 3), "scale": torch.randn(3), "shift": torch.randn(3)}

    def loss(p, x):
        return F.layer_norm(torch.tanh(x @ p["a"]), (3,), p["scale"], p["shift"]).sin().sum()

    traced = trace(loss, params, X)
    stages = split_at_marks(traced, "native_layer_norm")
    assert "native_layer_norm_backward" in operators(stages[1].I)
    assert operators(stages[1].W) == ["clone", "clone"]
    assert [stages[1].I.types[n].shape for n in stages[1].W.inputs] == [(3,), (3,)]
    assert_same_bits(stages, traced, params, X)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_convolution_is_taken_apart_by_its_mask(dtype):
    torch.manual_seed(0)
    apply, params, _ = functionalize(nn.Sequential(nn.Conv1d(2, 4, 3), nn.Tanh(), nn.Conv1d(4, 4, 3)).to(dtype))
    batch = torch.randn(2, 2, 9, dtype=dtype)
    traced = trace(lambda p, x: apply(p, {}, x)[0].sin().sum(), params, batch)
    first, last = stages = split_at_marks(traced, "convolution_1")
    assert masks(last.B) == [[True, True, True]]
    assert masks(last.I) == [[True, False, False]]
    assert masks(last.W) == [[False, True, True]]
    assert masks(first.W) == masks(first.B) == [[False, True, True]]
    assert_same_bits(stages, traced, params, batch)


def masks(region: Region) -> list[list[bool]]:
    found = region.module.graph.find_nodes(op="call_function", target=torch.ops.aten.convolution_backward.default)
    return [list(node.args[-1]) for node in found]


# Leaves and gradients that are used more than once


def test_a_gradient_that_goes_on_to_another_stage_is_accumulated_under_another_name():
    """The gradient of what is added is that of the sum: what the stage below waits for is the leaf's term as well."""
    params = {"a": torch.randn(3, 3), "row": torch.randn(4, 3), "b": torch.randn(3, 2)}

    def loss(p, x):
        return (torch.tanh(torch.tanh(x @ p["a"]) + p["row"]) @ p["b"]).sum()

    traced = trace(loss, params, X)
    stages = split_at_marks(traced, "add")
    ((_, value),) = stages[1].terms["row"]
    assert value in stages[1].I.outputs
    assert stages[1].terms_in("W")["row"] == ((traced_place(stages[1], "row"), f"{value}_of_W1"),)
    assert_same_bits(stages, traced, params, X)


def traced_place(stage: Stage, leaf: str) -> int:
    return stage.terms[leaf][0][0]


def test_a_tied_leaf_has_its_terms_in_the_w_of_each_stage_that_uses_it():
    params = {"words": torch.randn(5, 3), "a": torch.randn(3, 3)}
    ids = torch.tensor([0, 3, 3, 1])

    def loss(p, ids):
        return F.cross_entropy(torch.tanh(F.embedding(ids, p["words"]) @ p["a"]) @ p["words"].t(), ids)

    traced = trace(loss, params, ids)
    position = {n.name: i for i, n in enumerate(traced.forward)}
    stages = split_backward(partition(traced, (position["tanh"] + 1,)))
    assert [set(s.W.outputs) >= {v for _, v in s.terms["words"]} for s in stages] == [True, True]
    assert "embedding_dense_backward" in operators(stages[0].W)
    assert_same_bits(stages, traced, params, ids)


# What is computed again


@pytest.mark.parametrize("remat", ["full", "half"])
def test_a_value_computed_again_for_both_is_computed_in_i_and_handed_over(remat):
    params = {name: torch.randn(3, 3) for name in "abc"}

    def loss(p, x):
        return (torch.tanh(torch.tanh(torch.tanh(x @ p["a"]) @ p["b"]) @ p["c"])).sum()

    traced = trace(loss, params, X)
    stages = partition(traced, ([n.name for n in traced.forward].index("mm_1"),))
    policy = [remat if remat == "full" else saved_bytes(s) // 2 for s in stages]
    stages = split_backward(rematerialise(stages, ["none", policy[1]]))
    again = [n.name for n in stages[1].B.module.graph.nodes if n.meta.get("recomputed")]
    made = [n.name for r in (stages[1].I, stages[1].W) for n in r.module.graph.nodes if n.meta.get("recomputed")]
    assert again and sorted(made) == sorted(again)
    assert "tanh_1_recomputed_of_I1" in stages[1].W.inputs
    assert_same_bits(stages, traced, params, X)
