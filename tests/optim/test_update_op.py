"""The update as one operator of a traced step."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeError, GraphError
from funpipe.functional.objects import knowing
from funpipe.graphs import find, interpret
from funpipe.optim import Optimizer, adam, adamw, apply, chain, clip_by_global_norm, groups, sgd
from funpipe.optim.slots import slot_paths
from funpipe.optim.update_op import OPERATORS, UPDATE
from tests.passes.optimizer.steps import OPTIMIZERS, assert_same_bits, by_name, draw, initial, trained, update_step

PARAMS = draw(0)


def nodes(step):
    return find(step.graph, lambda node: node.target is UPDATE)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_traced_update_has_the_bits_of_one_at_once(name):
    optimizer = OPTIMIZERS[name]
    state = initial(optimizer, PARAMS)
    params, opt = PARAMS, state["opt"]
    found = trained(update_step(optimizer, PARAMS), state, [draw(1), draw(2)])
    for i in range(2):
        params, opt = apply(optimizer, params, draw(i + 1), opt, torch.tensor(i))
    assert_same_bits(found["params"], params)
    assert_same_bits(found["opt"], opt)


def test_one_operator_for_each_label_and_dtype():
    params = {**PARAMS, "half": torch.ones(2, dtype=torch.bfloat16)}
    step = update_step(adamw(0.1, decay_mask=lambda name, leaf: leaf.dim() > 1), params)
    assert [(node.args[-1], len(node.args[0])) for node in nodes(step)] == [
        ("'no decay'", 1),
        ("'decay'", 2),
        ("'no decay'", 2),
    ]


def test_the_norm_is_computed_once_for_all_groups():
    clip = clip_by_global_norm(0.5)
    optimizer = chain(
        clip, groups({"slow": adam(0.1), "fast": sgd(0.1)}, lambda n, x: "fast" if n > "leaf1" else "slow")
    )
    step = update_step(optimizer, PARAMS)
    first, second = nodes(step)
    assert first.args[4] == second.args[4] != None  # noqa: E711
    assert len(find(step.graph, lambda node: str(node.target) == "aten.sqrt.default")) == 1


def test_groups_that_do_not_clip_do_not_wait_for_the_norm():
    clipped = chain(clip_by_global_norm(0.5), adam(0.1))
    optimizer = groups({"slow": clipped, "fast": sgd(0.1)}, by_name)
    assert [node.args[4] is None for node in nodes(update_step(optimizer, PARAMS))] == [False, True]


def test_the_rate_of_a_group_is_a_leaf_of_its_own():
    optimizer = groups({"slow": adam(0.1), "fast": sgd(0.1)}, by_name)

    def step(state, grads):
        params, opt = apply(optimizer, state["params"], grads, state["opt"], state["step"], lr=state["lr"])
        return {**state, "params": params, "opt": opt}, {}

    state = {**initial(optimizer, PARAMS), "lr": {"fast": torch.tensor(0.5)}}
    traced = fp.trace_step(step, state, PARAMS)
    assert [node.args[5] and node.args[5].name for node in nodes(traced)] == [None, "state.lr.fast"]
    for rate in (0.5, 0.25):  # the graph stays the same
        state["lr"]["fast"] = torch.tensor(rate)
        found = trained(traced, state, [draw(1)])
        expected, _ = apply(optimizer, PARAMS, draw(1), state["opt"], state["step"], lr=state["lr"])
        assert_same_bits(found["params"], expected)


def test_equal_optimizers_share_a_name_and_others_do_not():
    first, again, other = (Optimizer(lambda p: {}, f, name="own") for f in (_keep, _keep, _halve))

    def step(state, batch):
        for optimizer in (first, first, other):
            state, _ = apply(optimizer, state, {"w": batch}, {}, torch.tensor(0))
        return state, {}

    traced = fp.trace_step(step, {"w": torch.ones(2)}, torch.ones(2))
    assert [node.args[6] for node in nodes(traced)] == ["own", "own", "own#1"]
    assert again != other
    assert_same_bits(trained(traced, {"w": torch.ones(2)}, [torch.ones(2)]), {"w": torch.full((2,), 0.5)})


def _keep(grads, state, params, ctx):
    return params, state


def _halve(grads, state, params, ctx):
    return {name: p / 2 for name, p in params.items()}, state


def test_what_stays_the_same_is_copied():
    step = fp.trace_step(lambda s, x: (apply(KEEP, s, {"w": x}, {}, torch.tensor(0))[0], {}), {"w": ONES}, ONES)
    new = interpret(step.graph, {"state.w": ONES, "batch.": ONES})["state.w"]
    assert torch.equal(new, ONES) and new.data_ptr() != ONES.data_ptr()


KEEP, ONES = Optimizer(lambda params: {}, _keep, name="keep"), torch.ones(2)


@pytest.mark.parametrize("name", ["clipped", "nesterov", "masked"])
def test_overwriting_gives_the_same_bits(name):
    optimizer = OPTIMIZERS[name]
    step, state = update_step(optimizer, PARAMS), initial(optimizer, PARAMS)
    graph = step.graph
    for node in nodes(step):
        flat = {n: x.clone() for n, x in step.inputs(state, draw(1)).items()}
        values = flat | {n.name: torch.tensor(2.0) for n in graph.nodes if n.type and n.name in node.reads}
        args = [[values[r.name] for r in a] if isinstance(a, list) else a for a in node.args[:3]]
        rest = [values[r.name] if hasattr(r, "name") else r for r in node.args[3:]]
        with knowing(graph.objects):
            new = OPERATORS.update(*args, *rest)
            OPERATORS.update_(*args, *rest)
        for old, expected in zip((*args[0], *args[2]), new, strict=True):
            assert torch.equal(old, expected)


def test_outside_of_a_graph_the_optimizer_is_not_known():
    with pytest.raises(GraphError, match=r"no object is known as 'sgd': run the graph with"):
        OPERATORS.update([ONES], [ONES], [], torch.tensor(0), None, None, "sgd", "None")


def test_a_rate_that_an_optimizer_does_not_take_is_refused_when_traced():
    def step(state, batch):
        return apply(KEEP, state, {"w": batch}, {}, torch.tensor(0), lr=torch.tensor(0.1))[0], {}

    with pytest.raises(FunpipeError, match="keep takes no learning rate from outside; leave lr out"):
        fp.trace_step(step, {"w": ONES}, ONES)


def test_slots_come_in_tree_order():
    assert slot_paths(chain(clip_by_global_norm(1.0), adam(0.1))) == (("1", "m"), ("1", "v"))
    assert slot_paths(sgd(0.1)) == ()


def test_a_leaf_that_is_left_out_stays_as_it_is():
    def step(state, grads):
        trained = {name: state["params"][name] for name in grads}
        new, opt = apply(optimizer, trained, grads, state["opt"], state["step"])
        return {**state, "params": {**state["params"], **new}, "opt": opt}, {}

    optimizer, grads = adamw(0.1), {"leaf0": draw(1)["leaf0"]}
    state = initial(optimizer, PARAMS) | {"opt": optimizer.init({"leaf0": PARAMS["leaf0"]})}
    traced = fp.trace_step(step, state, grads)
    assert [len(node.args[0]) for node in nodes(traced)] == [1]
    found = trained(traced, state, [grads])["params"]
    assert_same_bits({**found, "leaf0": PARAMS["leaf0"]}, PARAMS)
    assert not torch.equal(found["leaf0"], PARAMS["leaf0"])
