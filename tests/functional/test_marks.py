import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.functional.marks import collecting_marks, mark_op, mark_stage_end
from funpipe.functional.transformed import load_forward_mode

LAYOUTS = [
    torch.randn(4, 6),
    torch.randn(4, 6).t(),
    torch.randn(4, 6)[:, ::2],
    torch.randn(1, 6).expand(3, 6),
    torch.randn(5)[1:],
    torch.tensor(2.0),
    torch.randn(0, 3),
    torch.arange(3),
]


def marked(x):
    with collecting_marks():
        return mark_stage_end(x.sin(), name="encoder").cos()


def marks_in(graph):
    return [node for node in graph.graph.nodes if node.target is torch.ops.funpipe.mark_stage_end.default]


def test_outside_of_tracing_it_is_nothing():
    x = {"h": torch.ones(2)}
    assert mark_stage_end(x, name="encoder") is x


def test_compiled_it_is_nothing():
    compiled = torch.compile(lambda x: mark_stage_end(x.sin()), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(torch.ones(2)), torch.ones(2).sin())


def test_marks_are_collected_in_order_and_numbered():
    with collecting_marks() as names:
        mark_stage_end(torch.ones(1))
        mark_stage_end(torch.ones(1), name="encoder")
        mark_stage_end(torch.ones(1))
    assert names == ["mark0", "encoder", "mark2"]


def test_collecting_ends_after_an_error():
    with pytest.raises(RuntimeError, match="stop"), collecting_marks():
        raise RuntimeError("stop")
    x = torch.ones(1)
    assert mark_stage_end(x) is x


def test_each_tensor_of_a_pytree_is_marked_and_the_rest_passes():
    graph = make_fx(lambda a, b: _mark_tree(a, b), tracing_mode="fake")(torch.ones(2), torch.ones(3))
    assert [node.args[1] for node in marks_in(graph)] == ["mark0", "mark0"]


def _mark_tree(a, b):
    with collecting_marks():
        x = mark_stage_end({"a": (a, 3), "b": [b, None, "text"]})
    assert (x["a"][1], x["b"][1:]) == (3, [None, "text"])
    return x["a"][0], x["b"][0]


def test_the_tracer_finds_the_op_in_the_joint_graph():
    x = torch.randn(3, requires_grad=True)
    graph = make_fx(lambda x: torch.autograd.grad(marked(x).sum(), x), tracing_mode="fake")(x)
    (mark,) = marks_in(graph)
    assert (mark.args[0].target, mark.args[1]) == (torch.ops.aten.sin.default, "encoder")


def test_the_tracer_finds_the_op_under_func_grad():
    graph = make_fx(torch.func.grad(lambda x: marked(x).sum()), tracing_mode="fake")(torch.randn(3))
    assert len(marks_in(graph)) == 1


def test_the_graph_runs_without_its_marks():
    x = torch.randn(3, 4)
    graph = make_fx(lambda x: marked(x.t()).reshape(-1), tracing_mode="fake")(x)
    for mark in marks_in(graph):
        mark.replace_all_uses_with(mark.args[0])
        graph.graph.erase_node(mark)
    graph.recompile()
    assert torch.equal(graph(x), x.t().sin().cos().reshape(-1))


@pytest.mark.parametrize("x", LAYOUTS)
def test_the_op_is_a_copy_of_the_same_layout(x):
    y = mark_op(x, "encoder")
    assert torch.equal(y, x)
    assert (y.dtype, y.stride()) == (x.dtype, x.stride())
    assert y.numel() == 0 or y.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("x", LAYOUTS[:3])
def test_the_op_is_what_torch_wants_of_an_op(x):
    leaf = x.detach().clone().requires_grad_()
    torch.library.opcheck(mark_op, (leaf, "encoder"))


def test_the_gradient_is_the_identity():
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(marked, x)
    assert torch.autograd.gradgradcheck(marked, x)
    torch.testing.assert_close(
        torch.func.grad(lambda x: marked(x).sum())(x), torch.func.grad(lambda x: x.sin().cos().sum())(x)
    )


@pytest.mark.parametrize("dim", [0, 1])
def test_vmap_and_its_gradient(dim):
    x = torch.randn(3, 4)
    torch.testing.assert_close(torch.func.vmap(marked, dim, dim)(x), x.sin().cos())
    per_row = torch.func.vmap(torch.func.grad(lambda x: marked(x).sum()))(x)
    torch.testing.assert_close(per_row, torch.func.grad(lambda x: x.sin().cos().sum())(x))


def test_forward_mode():
    load_forward_mode()
    x, v = torch.randn(3), torch.randn(3)
    torch.testing.assert_close(torch.func.jvp(marked, (x,), (v,)), torch.func.jvp(lambda x: x.sin().cos(), (x,), (v,)))
    torch.testing.assert_close(torch.func.jacfwd(marked)(x), torch.func.jacrev(marked)(x))
    second = torch.func.hessian(lambda x: marked(x).sum())(x)
    torch.testing.assert_close(second, torch.func.hessian(lambda x: x.sin().cos().sum())(x))


def test_a_name_that_a_transform_passes_again_is_numbered():
    def twice(x):
        inner = torch.func.grad(lambda x: mark_stage_end(x, name="encoder").sum())
        return mark_stage_end(x + inner(x) + inner(x), name="encoder")

    with collecting_marks() as names:
        twice(torch.ones(2))
    assert names == ["encoder", "encoder.1", "encoder.2"]
    with (
        collecting_marks(),
        pytest.raises(StageError, match="two stage marks have the name 'encoder'"),
    ):
        twice(torch.ones(2))
        mark_stage_end(torch.ones(2), name="encoder")


def test_two_marks_of_one_name():
    with (
        collecting_marks(),
        pytest.raises(StageError, match=r"two stage marks have the name 'block'; give each its own"),
    ):
        for _ in range(2):
            mark_stage_end(torch.ones(1), name="block")


def test_a_mark_on_no_tensor():
    class Hidden:
        pass

    with (
        collecting_marks(),
        pytest.raises(FunpipeTypeError, match=r"stage mark 'mark0' got Hidden, .*; mark a tensor, or"),
    ):
        mark_stage_end(Hidden())
