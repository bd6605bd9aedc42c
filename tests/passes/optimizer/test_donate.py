import pytest
import torch

import funpipe as fp
from funpipe._errors import PassError
from funpipe._typing import TensorType
from funpipe.functional.communication import OPERATORS, WAIT
from funpipe.graphs import Graph, Node, Ref, find, interpret
from funpipe.graphs.effects import writes
from funpipe.passes import compose, donate, expand_updates, fuse_updates, split_updates, update_early
from tests.passes.optimizer.steps import OPTIMIZERS, assert_same_bits, draw, initial, outputs, step_of, update_step
from tests.simulated import steps

PARAMS, BATCH = draw(0), draw(1)
BEFORE = {
    "as it is": (),
    "split": (split_updates(3),),
    "fused": (split_updates(2), fuse_updates()),
    "written out": (expand_updates(),),
    "flat": (expand_updates(flat=True),),
}


def memory(x):
    return x.untyped_storage().data_ptr()


def overwritten(step, state, batch):
    """What a donating step gives, and the leaves whose new value is in the memory of the old one."""
    given = {name: x.clone() for name, x in step.inputs(state, batch).items()}
    found = interpret(step.graph, given)
    return found, {name for name in found if name in given and memory(found[name]) == memory(given[name])}


def donated(function, state, batch=None):
    """A step of a function, the donating one, what it gives, and which leaves it overwrites."""
    batch = torch.ones(2) if batch is None else batch
    step = fp.trace_step(function, state, batch)
    made = donate()(step)
    found, same = overwritten(made, state, batch)
    assert_same_bits(found, outputs(step.graph, step.inputs(state, batch)))
    return made, same


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_new_state_lies_in_the_old_one(name, before):
    optimizer = OPTIMIZERS[name]
    step, state = step_of(name), initial(optimizer, PARAMS)
    step = compose(*BEFORE[before])(step) if BEFORE[before] else step
    found, same = overwritten(donate()(step), state, BATCH)
    assert_same_bits(found, outputs(step.graph, step.inputs(state, BATCH)))
    assert same == set(found)


def test_fused_updates_become_their_overwriting_operators():
    step = compose(fuse_updates(), donate())(update_step(OPTIMIZERS["adam"], PARAMS, lr=0.1))
    (node,) = find(step.graph, lambda node: "fused" in node.name)
    assert node.target is torch.ops.aten._fused_adam_.tensor_lr
    assert node.type is None
    assert len(writes(node)) >= 3 * len(PARAMS)


def test_a_leaf_that_keeps_its_value_is_not_written():
    step, _ = donated(lambda s, x: ({"w": s["w"] + x, "lr": s["lr"]}, {}), {"w": torch.ones(2), "lr": torch.ones(2)})
    assert [writes(node) for node in step.graph.nodes] == [("state.w",)]


def test_a_later_reader_of_the_old_value_makes_a_copy_behind_it():
    step, same = donated(lambda s, x: (s + x, {"was": s * 2}), torch.ones(2))
    assert [str(node.target) for node in step.graph.nodes] == [
        "aten.add.Tensor",
        "aten.mul.Tensor",
        "aten.copy_.default",
    ]
    assert same == {"state."}


def test_a_view_that_is_read_later_is_a_reader():
    def function(s, x):
        view = s.view(2, 2)
        return s + x, {"was": view.sum(0)}

    step, same = donated(function, torch.ones(4), torch.ones(4))
    assert same == {"state."}
    assert str(step.graph.nodes[-1].target) == "aten.copy_.default"


def graph_of(nodes, returned, inputs=("state.w",)):
    """A graph over vectors of two."""
    return Graph(dict.fromkeys(inputs, _KIND), tuple(nodes), {n: Ref(v) for n, v in returned.items()})


_KIND = TensorType((2,), (1,), torch.float32)


def node(name, target, *args):
    return Node(name, target, args, type=_KIND)


ADD, VIEW = torch.ops.aten.add.Tensor, torch.ops.aten.view.default
NEW = node("new", ADD, Ref("state.w"), 1)
START = node("start", OPERATORS.all_reduce.default, Ref("state.w"), "sum", "dp")
STARTED = node("started", OPERATORS.all_reduce.default, Ref("new"), "sum", "dp")


@pytest.mark.parametrize(
    ("nodes", "returned"),
    [
        ([NEW], {"state.w": "new", "aux.new": "new"}),
        ([NEW], {"state.w": "new", "aux.old": "state.w"}),
        ([NEW, node("view", VIEW, Ref("new"), [2])], {"state.w": "new", "aux.view": "view"}),
        ([node("view", VIEW, Ref("state.w"), [2]), NEW], {"state.w": "new", "aux.view": "view"}),
        ([START, NEW], {"state.w": "new", "carry.start": "start"}),
        ([NEW, STARTED], {"state.w": "started"}),
    ],
    ids=["new twice", "old too", "view of new", "view of old", "old on its way", "new on its way"],
)
def test_values_that_show_elsewhere_stay(nodes, returned):
    graph = graph_of(nodes, returned)
    made = donate()(graph)
    assert made.nodes == graph.nodes
    assert made.outputs == graph.outputs


def test_a_value_on_its_way_is_not_overwritten_before_its_wait():
    wait = Node("wait", WAIT, (Ref("start"),), type=_KIND)
    double = node("double", ADD, Ref("wait"), Ref("wait"))
    made = donate()(graph_of([START, NEW, wait, double], {"state.w": "new", "aux.sum": "double"}))
    assert [n.name for n in made.nodes] == ["start", "new", "wait", "double", "new_kept"]
    assert made.nodes[1].target is ADD


@pytest.mark.parametrize("name", ["batch.w", "const.w", "axis.w"])
def test_what_is_not_the_state_is_never_given_away(name):
    graph = graph_of([node("new", ADD, Ref(name), 1)], {name: "new"}, inputs=(name,))
    graph = graph.replace(constants={name: torch.ones(2)} if name == "const.w" else {})
    assert donate(lambda name: True)(graph).nodes == graph.nodes


@pytest.mark.parametrize("output", ["carry.state.w", "state.w"], ids=["goes on", "flushed"])
def test_a_leaf_that_a_rotated_step_carries(output):
    graph = graph_of([node("new", ADD, Ref("carry.state.w"), 1)], {output: "new"}, inputs=("carry.state.w",))
    assert writes(donate()(graph).nodes[0]) == ("carry.state.w",)
    graph = graph_of([node("new", ADD, Ref("batch.x"), 1)], {output: "new"}, inputs=("batch.x", "carry.state.w"))
    made = donate()(graph)
    assert (writes(made.nodes[-1]), made.outputs) == (("carry.state.w",), {output: Ref("new_kept")})


def test_chosen_leaves_alone():
    leaf = torch.ones(2)
    step = fp.trace_step(lambda s, x: ({n: w + x for n, w in s.items()}, {}), {"a": leaf, "b": leaf}, leaf)
    made = donate(lambda name: name == "state.b")(step)
    assert [writes(node) for node in made.graph.nodes] == [(), ("state.b",)]


def test_leaves_of_a_call_that_must_stay_are_split_off():
    def function(state, grads):
        new, _ = fp.optim.apply(fp.optim.sgd(0.1), state, grads, {}, torch.tensor(0))
        return new, {"copy": new["leaf1"].view(-1)}

    made, same = donated(function, PARAMS, BATCH)
    assert same == {f"state.leaf{i}" for i in (0, 2, 3)}
    targets = [str(n.target) for n in made.graph.nodes if "update" in n.name]
    assert sorted(targets) == ["funpipe_optim.update.default", "funpipe_optim.update_.default"]


def test_a_gradient_that_lies_in_its_parameter():
    def function(state, batch):
        return fp.optim.apply(fp.optim.sgd(0.1), state, {n: p.view(2) for n, p in state.items()}, {}, torch.tensor(0))[
            0
        ], {}

    _, same = donated(function, {"a": torch.ones(2), "b": torch.ones(2)})
    assert same == {"state.a", "state.b"}


def test_lists_of_torch_are_overwritten():
    def function(state, batch):
        new = torch._foreach_add([state["a"], state["b"]], [batch, batch], alpha=2)
        return {"a": new[0], "b": new[1]}, {}

    made, same = donated(function, {"a": torch.ones(2), "b": torch.ones(2)})
    assert same == {"state.a", "state.b"}
    assert [str(n.target) for n in made.graph.nodes] == ["aten._foreach_add_.List"]


def test_leaves_that_change_places():
    _, same = donated(lambda s, x: ({"a": s["b"] + 1, "b": s["a"] + 1}, {}), {"a": torch.ones(2), "b": torch.zeros(2)})
    assert same == {"state.a", "state.b"}


def test_leaves_that_are_passed_on_as_they_are():
    made, same = donated(lambda s, x: ({"a": s["b"], "b": s["a"]}, {}), {"a": torch.ones(2), "b": torch.zeros(2)})
    assert not same and not any(writes(n) for n in made.graph.nodes)


def test_on_two_ranks():
    optimizer = OPTIMIZERS["adamw"]
    step = update_step(optimizer, PARAMS, dp=2)
    made = compose(update_early(), fuse_updates(), donate())(step)
    expected = steps(fuse_updates()(step), [initial(optimizer, PARAMS)] * 2, [draw(1), draw(2)])
    fresh = [initial(optimizer, draw(0)) for _ in range(2)]
    found = steps(made, fresh, [draw(1), draw(2)])
    for (new, _), (want, _) in zip(found, expected, strict=True):
        assert_same_bits(new, want)


def test_it_is_the_last_pass():
    with pytest.raises(PassError, match="'donate' must be the last pass, and 'split_updates' comes behind it"):
        compose(donate(), split_updates(2))


@pytest.mark.parametrize("scaled", [False, True])
def test_scaled_gradients_would_be_overwritten_too(scaled):
    def function(state, batch):
        scale = {"grad_scale": batch["scale"], "found_inf": batch["inf"]} if scaled else {}
        new, _, m, v, _ = torch.ops.aten._fused_adam(
            [state["w"]], [batch["g"]], [state["m"]], [state["v"]], [], [state["step"]], lr=0.1, beta1=0.9, beta2=0.99,
            weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False, **scale,
        )  # fmt: skip
        return {"w": new[0], "m": m[0], "v": v[0], "step": state["step"] + 1}, {}

    state = {n: torch.ones(2) for n in "wmv"} | {"step": torch.tensor(1.0)}
    batch = {"g": torch.ones(2), "scale": torch.tensor(2.0), "inf": torch.tensor(0.0)}
    made, same = donated(function, state, batch)
    assert same == {"state.w", "state.m", "state.v", "state.step"}
    assert [str(n.target) for n in made.graph.nodes if "fused" in n.name][0].count("adam_") == (not scaled)


def test_amsgrad_is_overwritten_too():
    def function(state, batch):
        new, _, m, v, top = torch.ops.aten._fused_adamw(
            [state["w"]], [batch], [state["m"]], [state["v"]], [state["top"]], [torch.ones(())], lr=0.1, beta1=0.9,
            beta2=0.99, weight_decay=0.0, eps=1e-8, amsgrad=True, maximize=True,
        )  # fmt: skip
        return {"w": new[0], "m": m[0], "v": v[0], "top": top[0]}, {}

    made, same = donated(function, {n: torch.ones(2) for n in ("w", "m", "v", "top")})
    assert same == {"state.w", "state.m", "state.v", "state.top"}
    assert not find(made.graph, lambda n: "copy_" in str(n.target))
