"""The passes under their old names, over a hand-traced step of fused Adam."""

import pytest
import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe.functional.communication import OPERATORS
from funpipe.interop.spmd.errors import (
    SpmdAssertionError,
    SpmdNotImplementedError,
    SpmdRuntimeError,
    SpmdTypeError,
    SpmdValueError,
)
from funpipe.interop.spmd.graph_optimization import (
    AdamArgs,
    FusedAdamBlock,
    comm_fusion_with_concat,
    enable_graph_optimization_dump,
    find_all_descendants,
    get_all_comm_blocks,
    get_all_fused_optimizer_blocks,
    get_comm_block,
    get_fused_optimizer_block,
    iter_move_grads_and_optimizers,
    remove_copy_from_optimizer,
    schedule_comm_wait,
    split_fused_optimizer,
)
from funpipe.interop.spmd.graph_utils import find_node
from funpipe.interop.spmd.iter_graph_module import IterGraphModule
from funpipe.interop.spmd.rewriting.dump import dumping
from tests.interop.spmd.traced_steps import batches, fold, initial, traced

GM = traced()
WIDE, DIM = traced(5, 520), 520
"""A weight is just more than 1 MiB, as in the users' tests with 4096 columns it is far more."""


def node(module, name):
    return find_node(module.graph, lambda n: n.name == name)[0]


def names(module, *beginnings):
    return [n.name for n in module.graph.nodes if n.name.startswith(beginnings)]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def is_the_step(module, gm=GM, layers=3, dim=8, count=3):
    plain = fold(lambda *flat, last_iter=False: gm(*flat), initial(layers, dim), batches(count, dim))
    return same(fold(module, initial(layers, dim), batches(count, dim)), plain)


def leaves_of(module, start):
    """Which gradients an all-reduce brings, as positions among the parameters."""
    below = find_all_descendants(module, [node(module, start)])
    gradients = node(module, "_fused_adam").args[1]
    return [i for i, gradient in enumerate(gradients) if gradient in below]


def test_buckets_are_those_of_the_original():
    module = IterGraphModule(WIDE)
    comm_fusion_with_concat(module, 2)
    starts = ["all_reduce_default", "all_reduce_default_1", "all_reduce_default_2"]
    assert names(module, "all_reduce") == starts
    assert [leaves_of(module, start) for start in starts] == [[8, 9], [4, 5, 6, 7], [0, 1, 2, 3]]
    assert is_the_step(module, WIDE, 5, DIM, 2)


def test_each_bucket_starts_when_its_last_gradient_is_there():
    module = IterGraphModule(WIDE)
    comm_fusion_with_concat(module, 2)
    order = [n.name for n in module.graph.nodes]
    backward = [n.name for n in module.graph.nodes if str(n.target).startswith("aten.threshold_backward")]
    at = [order.index(start) for start in names(module, "all_reduce")]
    # Backwards of layers 4, 3, 2, 1, 0; the buckets are those of layer 4, of 3 and 2, and of 1 and 0.
    assert order.index(backward[0]) < at[0] < order.index(backward[1])
    assert order.index(backward[2]) < at[1] < order.index(backward[3])


def test_what_is_alone_in_its_bucket_stays_as_it_is_but_for_its_name():
    gm = make_fx(lambda x: (OPERATORS.wait_tensor(OPERATORS.all_reduce(x * 2, "sum", "dp")),), tracing_mode="fake")(
        torch.ones(3)
    )
    comm_fusion_with_concat(gm, 1)
    assert [n.name for n in gm.graph.nodes if n.op == "call_function"] == ["mul", "all_reduce_default", "wait_tensor"]


def test_kinds_of_gradients_have_buckets_of_their_own():
    def total(*xs):
        return tuple(
            OPERATORS.wait_tensor(OPERATORS.all_reduce(x * 2, "max" if i == 4 else "sum", "dp"))
            for i, x in enumerate(xs)
        )

    xs = [torch.ones(3, dtype=kind) for kind in (*[torch.float32, torch.float64] * 2, torch.float32)]
    gm = make_fx(total, tracing_mode="fake")(*xs)
    comm_fusion_with_concat(gm, 1)
    starts = [n for n in gm.graph.nodes if n.name.startswith("all_reduce")]
    assert sorted((str(n.meta["val"].dtype), n.args[1], n.meta["val"].numel()) for n in starts) == [
        ("torch.float32", "max", 3),
        ("torch.float32", "sum", 6),
        ("torch.float64", "sum", 6),
    ]


@pytest.mark.parametrize("size", [0, -1, float("inf"), float("nan"), "1"])
def test_a_bucket_needs_a_size(size):
    with pytest.raises(
        SpmdValueError, match=f"bucket_size_mb={size!r} leaves no room for any gradient; pass a positive"
    ):
        comm_fusion_with_concat(IterGraphModule(GM), size)


def test_waits_come_right_before_their_readers():
    module = IterGraphModule(WIDE)
    comm_fusion_with_concat(module, 2)
    schedule_comm_wait(module)
    order = [n.name for n in module.graph.nodes]
    assert min(order.index(name) for name in names(module, "wait")) > max(
        order.index(name) for name in names(module, "all_reduce")
    )
    assert is_the_step(module, WIDE, 5, DIM, 2)


def test_waits_are_scheduled_after_fusion():
    with pytest.raises(AssertionError, match="comm_fusion_with_concat'} are the prerequisites of"):
        schedule_comm_wait(IterGraphModule(GM))


def test_an_all_reduce_that_nothing_reads_is_named():
    module = IterGraphModule(GM)
    comm_fusion_with_concat(module, 1)
    with module.graph.inserting_before(node(module, "_foreach_add")):
        start = module.graph.call_function(OPERATORS.all_reduce.default, (node(module, "relu"), "sum", "dp"))
        module.graph.call_function(OPERATORS.wait_tensor.default, (start,))
    with pytest.raises(
        AssertionError, match="Found a allreduce that has zero outputs/users -- all_reduce_default_1. Erase"
    ):
        schedule_comm_wait(module)


def test_copies_that_nothing_reads_go_if_an_optimizer_made_what_they_copy():
    def step(x, y):
        (new,) = torch._foreach_add([x], 1)
        torch.ops.aten.copy_(x, new)
        torch.ops.aten.copy_(y, y.sin())
        return new

    gm = make_fx(step, tracing_mode="fake")(torch.ones(2), torch.ones(2))
    assert len(names(gm, "copy_")) == 2
    remove_copy_from_optimizer(gm)
    assert names(gm, "copy_") == ["copy__1"]


def test_a_traced_step_has_no_copies():
    module = IterGraphModule(GM)
    before = [n for n in names(module, "") if n != "getitem_34"]
    remove_copy_from_optimizer(module)
    assert len(names(module, "_fused_adam")) == 1 and is_the_step(module)
    assert set(names(module, "")) <= set(before)


def test_blocks_of_collectives():
    module = IterGraphModule(GM)
    single = get_comm_block(node(module, "all_reduce"))
    assert (single.shape, [n.name for n in single.inputs]) == ((8,), ["view"])
    assert [n.name for n in single.node_list] == ["all_reduce", "wait_tensor"]
    assert single.outputs == {node(module, "wait_tensor")} and hash(single) == hash(single.comm_node)
    comm_fusion_with_concat(module, 1)
    (fused,) = get_all_comm_blocks(module, "all_reduce")
    assert fused.outputs == set(node(module, "_fused_adam").args[1])
    assert [n.name for n in fused.wait_nodes] == ["wait_tensor_default"]
    assert get_all_comm_blocks(module, "all_gather") == []


def test_a_collective_without_a_wait_is_named():
    graph = fx.Graph()
    graph.output(graph.call_function(OPERATORS.all_reduce.default, (graph.placeholder("x"), "sum", "dp")))
    with pytest.raises(
        SpmdRuntimeError, match="too far away from the comm node all_reduce_default. Have wait_tensor read"
    ):
        get_all_comm_blocks(fx.GraphModule({}, graph), "all_reduce")


def test_blocks_of_optimizers():
    module = IterGraphModule(GM)
    (block,) = get_all_fused_optimizer_blocks(module, "_fused_adam")
    args = AdamArgs(*block.optim.optim_node.args)
    assert len(args.params) == len(args.grads) == 6 and args.max_exp_avg_sqs == []
    assert block.step.add_node.name == "_foreach_add" and block.step.outputs == list(args.state_steps)
    (output,) = module.graph.find_nodes(op="output")
    made = [*block.optim.param_outputs, *block.optim.exp_avgs_outputs, *block.optim.exp_avg_sqs_outputs]
    assert made == list(output.args[0][:18])
    assert get_all_fused_optimizer_blocks(module, "_fused_sgd") == []


def test_an_update_whose_steps_nobody_counts_is_an_error():
    module = IterGraphModule(GM)
    adam = node(module, "_fused_adam")
    adam.args = (*adam.args[:5], [n for n in module.graph.nodes if n.op == "placeholder"][18:24])
    with pytest.raises(
        SpmdRuntimeError, match=r"Cannot find step node \(foreach_add\) for the optimizer node _fused_adam with 5"
    ):
        get_fused_optimizer_block(adam)
    with pytest.raises(SpmdRuntimeError, match="Cannot find step node"):
        get_fused_optimizer_block(node(module, "relu"))


def test_results_that_nothing_takes_are_none_or_made():
    module = IterGraphModule(GM)
    adam = node(module, "_fused_adam")
    module.graph.eliminate_dead_code()
    assert FusedAdamBlock(adam).grad_outputs == [None] * 6
    made = FusedAdamBlock(adam, generate_output=True).grad_outputs
    assert [n.args[0].args for n in made] == [(adam, 1)] * 6 and made[0].meta["val"].shape == (8, 8)
    module.graph.lint()


def test_an_update_becomes_two():
    module = IterGraphModule(GM)
    remove_copy_from_optimizer(module)
    block = get_all_fused_optimizer_blocks(module, "_fused_adam")[0]
    gradients = {block.optim.optim_node.args[1][i] for i in (1, 2)}
    chosen, rest = split_fused_optimizer(module, block, gradients)
    module.graph.eliminate_dead_code()
    module.recompile()
    assert len(get_all_fused_optimizer_blocks(module, "_fused_adam")) == 2
    assert set(chosen.optim.optim_node.args[1]) == gradients and len(rest.optim.optim_node.args[1]) == 4
    assert (len(chosen.step.outputs), len(rest.step.outputs)) == (2, 4)
    module.finalize_setup()
    assert is_the_step(module)


def test_what_cannot_be_split():
    module = IterGraphModule(GM)
    (block,) = get_all_fused_optimizer_blocks(module, "_fused_adam")
    with pytest.raises(ValueError, match="The given split_gradients is empty."):
        split_fused_optimizer(module, block, set())
    with pytest.raises(
        ValueError, match="At least one split optimizer does not have input. All gradients of '_fused_adam'"
    ):
        split_fused_optimizer(module, block, set(block.optim.optim_node.args[1]))
    with pytest.raises(
        SpmdValueError, match="'_fused_adam' takes no gradient 'relu'; take some of wait_tensor_5, wait_tensor_4"
    ):
        split_fused_optimizer(module, block, {node(module, "relu")})
    block.optim.optim_node = node(module, "relu")
    with pytest.raises(SpmdNotImplementedError, match="Only fused_adam is supported now.*'relu' is none of them"):
        split_fused_optimizer(module, block, {node(module, "addmm")})


def sgd(grads=2):
    """A step of fused SGD with momentum, which counts no steps."""

    def step(*flat):
        params, buffers = list(flat[:grads]), list(flat[grads : 2 * grads])
        totals = [OPERATORS.wait_tensor(OPERATORS.all_reduce(p * flat[-1], "sum", "dp")) for p in params]
        new = torch.ops.aten._fused_sgd(
            params, totals, buffers,
            weight_decay=0.0, momentum=0.5, lr=0.1, dampening=0.0, nesterov=False, maximize=False, is_first_step=False,
        )  # fmt: skip
        return [*new[0], *new[2]]

    module = make_fx(step, tracing_mode="fake")(*torch.ones(2 * grads + 1, 3))
    state = [f"state.{kind}.{i}" for kind in ("params", "momentum") for i in range(grads)]
    module.meta |= {"inputs": (*state, "batch.x"), "outputs": tuple(state)}
    return module


def test_other_fused_optimizers_are_split_and_moved():
    module, gm = IterGraphModule(sgd()), sgd()
    (block,) = get_all_fused_optimizer_blocks(module, "_fused_sgd")
    assert block.step is None
    remove_copy_from_optimizer(module)
    iter_move_grads_and_optimizers(module, "all_reduce_1", "mul")
    module.finalize_setup()
    assert len(get_all_fused_optimizer_blocks(module, "_fused_sgd")) == 2
    state, xs = list(torch.ones(4, 3)), list(torch.randn(3, 3))
    assert same(fold(module, state, xs), fold(lambda *flat, last_iter=False: gm(*flat), state, xs))


@pytest.mark.parametrize("target", ["relu", "addmm"])
def test_a_bucket_moves_to_where_its_leaves_are_not_read_yet(target):
    module = IterGraphModule(WIDE)
    comm_fusion_with_concat(module, 2)
    schedule_comm_wait(module)
    remove_copy_from_optimizer(module)
    iter_move_grads_and_optimizers(
        module, "all_reduce_default_1" if target == "relu" else "all_reduce_default_2", target
    )
    module.finalize_setup()
    assert is_the_step(module, WIDE, 5, DIM, 2)


def test_a_bucket_does_not_move_past_a_reader():
    module = IterGraphModule(WIDE)
    comm_fusion_with_concat(module, 2)
    remove_copy_from_optimizer(module)
    with pytest.raises(
        SpmdValueError, match=r"before 'relu': addmm \(aten.addmm.default\) stands in front of it and reads 'par"
    ):
        iter_move_grads_and_optimizers(module, "all_reduce_default_2", "relu")


def test_a_bucket_that_feeds_a_whole_update_moves_with_it():
    module = IterGraphModule(GM)
    comm_fusion_with_concat(module, 1)
    remove_copy_from_optimizer(module)
    iter_move_grads_and_optimizers(module, "all_reduce_default", "addmm")
    module.finalize_setup()
    assert len(names(module, "_fused_adam")) == 1 and is_the_step(module)


@pytest.mark.parametrize(
    ("collective", "target", "message"),
    [
        (
            "all_reduce_9",
            "relu",
            r"Cannot find all_reduce_9. The all-reduces are all_reduce, all_reduce_1, .*: name one of",
        ),
        ("all_reduce", "rellu", "Cannot find rellu among the nodes of the graph; use one of 'relu'"),
    ],
)
def test_names_that_are_not_there(collective, target, message):
    module = IterGraphModule(GM)
    remove_copy_from_optimizer(module)
    with pytest.raises(IndexError if target == "rellu" else ValueError, match=message):
        iter_move_grads_and_optimizers(module, collective, target)


def test_a_collective_of_no_fused_optimizer():
    gm = make_fx(
        lambda p, x: (p - OPERATORS.wait_tensor(OPERATORS.all_reduce(p * x, "sum", "dp")),), tracing_mode="fake"
    )(*torch.ones(2, 3))
    module = IterGraphModule(gm)
    remove_copy_from_optimizer(module)
    with pytest.raises(ValueError, match="all_reduce is not used by any fused optimizer. Use fused=True"):
        iter_move_grads_and_optimizers(module, "all_reduce", "mul")


def test_moving_needs_a_next_step():
    gm = traced()
    remove_copy_from_optimizer(gm)
    with pytest.raises(
        SpmdTypeError, match=r"has no next step to move work to; wrap it first, as in IterGraphModule\(gm\)"
    ):
        iter_move_grads_and_optimizers(gm, "all_reduce", "relu")


def test_moving_comes_after_waits_are_scheduled():
    module = IterGraphModule(WIDE)
    comm_fusion_with_concat(module, 2)
    with pytest.raises(AssertionError, match="remove_copy_from_optimizer'} are the prerequisites of"):
        iter_move_grads_and_optimizers(module, "all_reduce_default", "relu")
    remove_copy_from_optimizer(module)
    iter_move_grads_and_optimizers(module, "all_reduce_default", "relu")
    with pytest.raises(AssertionError, match="iter_move_grads_and_optimizers'} must be applied after"):
        schedule_comm_wait(module)


def test_descendants_come_in_order_without_the_output():
    module = IterGraphModule(GM)
    found = find_all_descendants(module, [node(module, "relu_2")])
    assert [n.name for n in found][:3] == ["relu_2", "detach_8", "sum_1"] and found[-1].op != "output"
    with pytest.raises(SpmdAssertionError, match="No parent nodes are given."):
        find_all_descendants(module, [])
    with pytest.raises(SpmdValueError, match="relu_2 is no node of this graph; take nodes from gm.graph"):
        find_all_descendants(module, [node(GM, "relu_2")])


def test_nodes_that_a_pass_leaves_alone_stay_the_same_objects():
    module = IterGraphModule(WIDE)
    kept = [node(module, name) for name in ("relu", "_foreach_add", "_fused_adam")]
    comm_fusion_with_concat(module, 2)
    assert [node(module, n.name) is n for n in kept] == [True] * 3


def test_passes_dump_on_request(tmp_path):
    with dumping(""):  # what is enabled in here ends with it
        enable_graph_optimization_dump(str(tmp_path))
        comm_fusion_with_concat(IterGraphModule(GM), 1)
        comm_fusion_with_concat(traced(), 1)
    remove_copy_from_optimizer(IterGraphModule(GM))
    parts = {f"after_comm_fusion_with_concat_{part}_gm.graph" for part in ("setup", "main", "cleanup")}
    assert {file.name for file in tmp_path.iterdir()} == {*parts, "after_comm_fusion_with_concat.graph"}
    assert "all_reduce_default" in (tmp_path / "after_comm_fusion_with_concat.graph").read_text()


def test_gradients_that_were_changed_in_front_of_their_reduction_are_fused():
    module, plain = IterGraphModule(traced()), traced()
    for start in find_node(module.graph, lambda n: n.name.startswith("all_reduce")):
        with module.graph.inserting_before(start):
            doubled = module.graph.call_function(torch.ops.aten.mul.Tensor, (start.args[0], 2.0))
        start.args = (doubled, *start.args[1:])
    for start in find_node(plain.graph, lambda n: n.name.startswith("all_reduce")):
        (wait,) = start.users
        with plain.graph.inserting_after(wait):
            doubled = plain.graph.call_function(torch.ops.aten.mul.Tensor, (wait, 2.0))
        wait.replace_all_uses_with(doubled, lambda user, own=doubled: user is not own)
    plain.recompile()
    comm_fusion_with_concat(module, 1)
    found = fold(module, initial(), batches(2))
    expected = fold(lambda *flat, last_iter=False: plain(*flat), initial(), batches(2))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
