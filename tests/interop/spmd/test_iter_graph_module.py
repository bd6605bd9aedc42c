"""Work that moves into the next step, and the state of a module between two steps."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe.functional.communication import communicating
from funpipe.interop.spmd.errors import SpmdRuntimeError, SpmdValueError
from funpipe.interop.spmd.graph_optimization import find_all_descendants, iter_move_grads_and_optimizers
from funpipe.interop.spmd.graph_optimization import remove_copy_from_optimizer as remove_copy
from funpipe.interop.spmd.graph_utils import find_node
from funpipe.interop.spmd.iter_graph_module import IterGraphModule
from tests.interop.spmd.traced_steps import Doubling, batches, fold, initial, overwrite, traced

GM = traced()
"""Three layers: `all_reduce` and `all_reduce_1` bring the gradients of the last one's bias and weight, and so on."""


def node(module, name):
    return find_node(module.graph, lambda n: n.name == name)[0]


def expected(count):
    return fold(lambda *flat, last_iter=False: GM(*flat), initial(), batches(count))


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def moved(collective="all_reduce", target="relu", **kwargs):
    module = IterGraphModule(GM, **kwargs)
    remove_copy(module)
    iter_move_grads_and_optimizers(module, collective, target)
    module.finalize_setup()
    return module


once_moved = cache(moved)
"""A module begins anew after its last step."""


class FakeOptimization:
    """Stands for what reduces a gradient and updates; counts."""

    def __init__(self) -> None:
        self.all_reduces = self.waits = 0

    def fake_all_reduce(self, gradients):
        self.all_reduces += 1
        return torch.concat(gradients)

    def fake_wait(self, tensor):
        self.waits += 1
        return tensor.clone()

    def fake_step(self, step) -> None:
        return

    def fake_optimizer(self, gradient) -> None:
        return

    def scheduled(self, gm, moving: tuple[int, ...]) -> IterGraphModule:
        module = IterGraphModule(gm)
        graph, nodes = module.graph, [node(module, "addmm_2")]
        functions = (self.fake_all_reduce, self.fake_wait, self.fake_step, self.fake_optimizer)
        reads = ([nodes[0]], None, next(iter(graph.nodes)), None)
        for function, read in zip(functions, reads, strict=True):
            with graph.inserting_after(nodes[-1]):
                nodes.append(graph.call_function(function, (nodes[2 if function == self.fake_optimizer else -1],)))
            if read is not None:
                graph.node_set_args(nodes[-1], (read,))
        graph.keep_unused_nodes()
        if moving:
            graph.move_to_next_iter_before([nodes[1 + i] for i in moving], node(module, "addmm_1"))
        graph.eliminate_dead_code()
        module.recompile()
        return module


@pytest.mark.parametrize("moving", [(), (0, 1, 2, 3), (1, 3)], ids=["nothing", "all_reduce and wait", "wait"])
def test_basic_movement(moving):
    net = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20), nn.Linear(20, 20), nn.Softmax(-1))
    names = [name for name, _ in net.named_parameters()]
    gm = make_fx(lambda *flat: torch.func.functional_call(net, dict(zip(names, flat, strict=False)), flat[-1]))(
        *(p.detach() for p in net.parameters()), torch.ones(4, 20)
    )
    fake = FakeOptimization()
    module = fake.scheduled(gm, moving)
    for i in range(count := 5):
        x = torch.randn(4, 20)
        last = i == count - 1
        out = module(*(p.detach() for p in net.parameters()), x, last_iter=last)
        assert torch.equal(out, net(x))
        done = i + 1
        assert fake.all_reduces == (i if 0 in moving and not last else done)
        assert fake.waits == (i if 1 in moving and not last else done)
        assert module.pending is (bool(moving) and not last)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(
    ("collective", "target"), [("all_reduce", "relu"), ("all_reduce_3", "relu"), ("all_reduce_5", "addmm")]
)
def test_steps_with_work_moved_are_the_steps(collective, target, count):
    assert same(fold(once_moved(collective, target), initial(), batches(count)), expected(count))


def test_training_goes_on_after_the_last_step():
    module, state = moved(), initial()
    for begin, end in ((0, 2), (2, 3), (3, 6)):
        state = fold(module, state, batches(6)[begin:end])
    assert same(state, expected(6))


@pytest.mark.parametrize("at", [1, 2, 4])
def test_the_state_can_be_completed_at_any_time(at):
    module, talker = moved(), Doubling()
    state = fold(module, initial(), batches(6)[:at], last=False)
    assert module.pending and not same(state, expected(at))
    with communicating(talker), torch.no_grad():
        outputs = module.flush(*state, None)
    assert not module.pending and outputs[-1] is None
    overwrite(module, state, outputs)
    assert same(state, expected(at))
    assert same(fold(module, state, batches(6)[at:]), expected(6))


def test_stale_leaves_are_what_they_were_and_are_not_read():
    module, state, talker = moved("all_reduce_1"), initial(), Doubling()
    first, second = batches(2)
    with communicating(talker), torch.no_grad():
        outputs = module(*state, first)
        assert module.stale == (4, 10, 16, 22)
        assert all(outputs[i] is state[i] for i in module.stale)
        given = [torch.tensor(float("nan")) if i in module.stale else new for i, new in enumerate(outputs[:-1])]
        outputs = module(*given, second, last_iter=True)
    assert module.stale == ()
    assert same(outputs[:-1], expected(2))


def test_what_is_carried_is_not_what_the_caller_overwrites():
    gm = make_fx(lambda w, rate, x: (w - rate * x, rate / 2, x.sum()), tracing_mode="fake")(*torch.ones(3, 3))
    gm.meta |= {"inputs": ("state.w", "state.rate", "batch.x"), "outputs": ("state.w", "state.rate", "aux.sum")}
    module, x = IterGraphModule(gm), torch.ones(3)
    module.graph.move_to_next_iter_before([node(module, "mul"), node(module, "sub")], node(module, "sum_1"))
    module.finalize_setup()
    state = [torch.zeros(3), torch.ones(3)]
    for i in range(3):
        outputs = module(*state, x.fill_(i + 1), last_iter=i == 2)
        overwrite(module, state, outputs)
    assert state[0].tolist() == [-(1 * 1 + 0.5 * 2 + 0.25 * 3)] * 3


def test_max_iters_ends_as_last_iter_does():
    module = moved(max_iters=3)
    assert same(fold(module, initial(), batches(3), last=False), expected(3)) and not module.pending
    assert same(fold(module, initial(), batches(6), last=False), expected(6)) and not module.pending


def test_it_runs_without_finalize_setup():
    module = IterGraphModule(GM)
    remove_copy(module)
    iter_move_grads_and_optimizers(module, "all_reduce", "relu")
    assert same(fold(module, initial(), batches(3)), expected(3))


def all_descendants(target):
    """The seed's scenario: the first all-reduce, and all updates."""
    module = IterGraphModule(GM)
    roots = [node(module, "all_reduce"), node(module, "_foreach_add")]
    module.graph.move_to_next_iter_before(find_all_descendants(module, roots), node(module, target))
    return module


def test_a_move_that_was_not_compiled_does_nothing():
    module = all_descendants("relu")
    assert same(fold(module, initial(), batches(2)), expected(2))


@pytest.mark.parametrize("compiled", [lambda module: module.recompile(), lambda module: module.finalize_setup()])
def test_a_move_past_a_reader_names_the_reader(compiled):
    module = all_descendants("relu")
    with pytest.raises(
        SpmdValueError, match=r"before 'relu': addmm \(aten.addmm.default.*reads 'params.0.bias'.*before 'addmm'"
    ):
        compiled(module)


@pytest.mark.parametrize("target", ["addmm", "t", "detach"])
def test_a_move_before_every_reader_is_the_step(target):
    module = all_descendants(target)
    module.finalize_setup()
    assert same(fold(module, initial(), batches(5)), expected(5))


def test_several_moves():
    module = IterGraphModule(GM)
    remove_copy(module)
    iter_move_grads_and_optimizers(module, "all_reduce", "relu_1")
    update = node(module, "_foreach_add_scalar")
    module.graph.move_to_next_iter_before(find_all_descendants(module, [update]), node(module, "addmm"))
    module.finalize_setup()
    assert same(fold(module, initial(), batches(5)), expected(5))


def test_frozen_after_finalize_setup():
    module = moved()
    with pytest.raises(RuntimeError, match="The cross-iteration movement has been frozen for the given IterGraph."):
        module.graph.move_to_next_iter_before([node(module, "sum_1")], node(module, "relu"))


def test_what_others_read_cannot_be_moved():
    module = IterGraphModule(GM)
    with pytest.raises(
        ValueError, match=r"must satisfy one of the following.*'wait_tensor' reads 'all_reduce': move it, too"
    ):
        module.graph.move_to_next_iter_before([node(module, "all_reduce")], node(module, "relu"))
    with pytest.raises(ValueError, match="must satisfy one of the following.*No node is given"):
        module.graph.move_to_next_iter_before([], node(module, "relu"))


def test_nodes_of_another_graph_cannot_be_moved():
    module = IterGraphModule(GM)
    with pytest.raises(ValueError, match="'relu' is a node of another graph"):
        module.graph.move_to_next_iter_before([node(module, "relu_2")], node(GM, "relu"))


def test_what_computes_nothing_cannot_be_moved():
    module = IterGraphModule(GM)
    with pytest.raises(SpmdValueError, match="'output' is no call"):
        module.graph.move_to_next_iter_before([node(module, "output")], node(module, "relu"))


@pytest.mark.parametrize("finalized", [False, True])
def test_a_copy_runs_and_is_edited_by_itself(finalized):
    module = IterGraphModule(GM)
    remove_copy(module)
    iter_move_grads_and_optimizers(module, "all_reduce", "relu")
    if finalized:
        module.finalize_setup()
    copy = deepcopy(module)
    loss = node(copy, "sum_1")
    with copy.graph.inserting_after(loss):
        doubled = copy.graph.call_function(torch.add, (loss, loss))
    loss.replace_all_uses_with(doubled, lambda user: user.op == "output")
    copy.recompile()
    for each in (module, copy):
        each.finalize_setup()
        assert same(fold(each, initial(), batches(2)), expected(2))
    assert "torch.add(" in copy.code and "torch.add(" not in module.code


def test_work_does_not_move_in_a_graph_that_overwrites():
    module = IterGraphModule(GM)
    wait = node(module, "wait_tensor")
    with module.graph.inserting_after(wait):
        module.graph.call_function(torch.ops.aten.mul_.Tensor, (wait, 2.0))
    remove_copy(module)
    with pytest.raises(SpmdValueError, match=r"overwrites 'wait_tensor'.*such as aten.mul for aten.mul_"):
        iter_move_grads_and_optimizers(module, "all_reduce", "relu")


def test_open_work_is_not_copied():
    module = moved()
    fold(module, initial(), batches(1), last=False)
    with pytest.raises(SpmdRuntimeError, match=r"open work cannot be copied.*or call flush\(...\), and copy it then"):
        deepcopy(module)


def test_what_an_output_of_the_step_needs_cannot_be_moved():
    module = IterGraphModule(GM)
    loss = find_all_descendants(module, [node(module, "relu_2")])
    module.graph.move_to_next_iter_before(loss, node(module, "addmm"))
    with pytest.raises(
        SpmdValueError, match=r"'relu_2' and what depends.*the output 'aux.0' is %sum_1.*wanted in its own step"
    ):
        module.recompile()


def test_a_moved_node_that_is_gone_is_named():
    module = all_descendants("addmm")
    gone = module.graph.moves[0].nodes[-1]
    (output,) = module.graph.find_nodes(op="output")
    output.args = ([gone.args[0] if item is gone else item for item in output.args[0]],)
    module.graph.erase_node(gone)
    with pytest.raises(SpmdValueError, match=f"the node '{gone.name}' of a move.*no longer in the graph: apply passes"):
        module.recompile()


def test_a_graph_does_not_change_while_work_is_open():
    module = IterGraphModule(GM)
    remove_copy(module)
    iter_move_grads_and_optimizers(module, "all_reduce", "relu")
    fold(module, initial(), batches(1), last=False)
    with pytest.raises(
        SpmdRuntimeError, match="cannot change while work of the last step is open: end with last_iter=True"
    ):
        module.finalize_setup()


def test_there_must_be_open_work_to_flush():
    with pytest.raises(SpmdRuntimeError, match="nothing was moved to the next step"):
        IterGraphModule(GM).flush(*initial(), None)
    with pytest.raises(SpmdRuntimeError, match="there is no open work to flush"):
        moved().flush(*initial(), None)


def test_edits_past_the_methods_reach_all_three_graphs():
    module = IterGraphModule(GM)
    adam = node(module, "_fused_adam")
    adam.kwargs = adam.kwargs | {"lr": 0.5}
    remove_copy(module)
    iter_move_grads_and_optimizers(module, "all_reduce", "relu")
    module.finalize_setup()
    rates = [
        [n.kwargs["lr"] for n in each.graph.nodes if "_fused_adam" in str(n.target)]
        for each in (module.setup_gm, module.main_gm, module.cleanup_gm)
    ]
    assert rates == [[0.5], [0.5, 0.5], [0.5, 0.5, 0.5]]


def test_the_three_graphs_can_be_read(capsys, caplog):
    module = moved()
    assert "_fused_adam" in module.print_readable(False)
    with caplog.at_level("INFO", logger="IterGraphModule"):
        module.print_all_graphs()
        module.print_all_graph_modules()
    for part in ("setup", "main", "cleanup"):
        assert f"{part} fx.Graph:" in caplog.text and f"{part} fx.GraphModule:" in caplog.text


def test_one_value_is_carried_once():
    module = moved("all_reduce_1")
    inputs = [n.name for n in module.main_gm.graph.nodes if n.op == "placeholder" and n.name.startswith("carry")]
    assert len(inputs) == 5, inputs  # the gradient, a parameter, two slots, a count of steps


def test_arguments_may_be_given_by_name():
    gm = make_fx(lambda w, x: (w * x,), tracing_mode="fake")(torch.ones(1), torch.ones(1))
    module = IterGraphModule(gm)
    assert module(torch.ones(1), x_1=torch.full((1,), 3.0))[0].item() == 3.0


def test_a_failed_move_can_be_taken_back():
    module = all_descendants("relu")
    with pytest.raises(SpmdValueError, match="addmm"):
        module.finalize_setup()
    assert same(fold(module, initial(), batches(2)), expected(2))  # what was compiled before still runs
    move = module.graph.moves.pop()
    module.graph.move_to_next_iter_before(move.nodes, node(module, "addmm"))
    module.finalize_setup()
    assert same(fold(module, initial(), batches(2)), expected(2))


def test_edits_through_the_methods():
    module = IterGraphModule(make_fx(lambda x: (x.sin(), x.cos()), tracing_mode="fake")(torch.ones(2)))
    graph = module.graph
    sin, cos = node(module, "sin"), node(module, "cos")
    graph.node_prepend(sin, cos)
    assert [n.name for n in graph.nodes] == ["x_1", "cos", "sin", "output"]
    graph.node_append(sin, cos)
    with graph.inserting_after(cos):
        one = graph.call_function(torch.exp, (sin,))
        two = graph.call_function(torch.exp, (cos,))
    graph.move_after([one, two], cos)
    assert [n.name for n in graph.nodes] == ["x_1", "sin", "cos", one.name, two.name, "output"]
    graph.move_before([cos, two], one)
    assert [n.name for n in graph.nodes] == ["x_1", "sin", "cos", two.name, one.name, "output"]
    assert graph.node_replace_all_uses_with(sin, one, lambda user: user is not one) == [node(module, "output")]
    graph.node_set_args(one, (cos,))
    graph.node_set_kwargs(one, {"out": None})
    module.recompile()
    x = torch.randn(2)
    assert all(map(torch.equal, module(x), (x.cos().exp(), x.cos())))


def test_nodes_that_nothing_reads_stay_if_they_are_kept():
    module = IterGraphModule(make_fx(lambda x: (x.sin(),), tracing_mode="fake")(torch.ones(2)))
    graph, sin = module.graph, node(module, "sin")
    with graph.inserting_after(sin):
        kept = [graph.create_node("call_function", torch.exp, (sin,), name=name) for name in ("a", "_fused_adam_", "b")]
    graph.functionalize_optim()
    graph.node_add_user(kept[0], "somebody")
    graph.eliminate_dead_code()
    assert [n.name for n in graph.nodes] == ["x_1", "sin", "_fused_adam_", "a", "output"]
    graph.defunctionalize_optim()
    graph.eliminate_dead_code()
    assert [n.name for n in graph.nodes] == ["x_1", "sin", "a", "output"]
    graph.node_remove_user(kept[0], "somebody")
    graph.eliminate_dead_code()
    assert [n.name for n in graph.nodes] == ["x_1", "sin", "output"]


def test_erasing_a_kept_node_forgets_it():
    module = IterGraphModule(make_fx(lambda x: (x.sin(),), tracing_mode="fake")(torch.ones(2)))
    with module.graph.inserting_after(node(module, "sin")):
        kept = module.graph.call_function(torch.exp, (node(module, "sin"),))
    module.graph.keep_unused_nodes()
    assert kept in module.graph.held
    module.graph.erase_node(kept)
    assert module.graph.held == {}
