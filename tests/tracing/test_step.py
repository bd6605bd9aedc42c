import torch
from torch import nn

import funpipe as fp
from funpipe.graphs import Ref, interpret
from funpipe.graphs.effects import writes

ONE = fp.MeshShape(pp=1)


# Names and types


def a_step(state, batch):
    return {"n": state["n"] + 1, "w": state["w"]}, {"y": batch["x"] * 2, "all": [batch["x"].sum()]}


def test_inputs_and_outputs_are_the_leaves_of_the_trees():
    traced = fp.trace_step(
        a_step, {"n": torch.tensor(0), "w": torch.ones(2)}, {"x": torch.ones(3), "unread": torch.ones(1)}
    )
    assert list(traced.graph.inputs) == ["state.n", "state.w", "batch.unread", "batch.x"]
    assert list(traced.graph.outputs) == ["state.n", "state.w", "aux.all.0", "aux.y"]
    assert traced.mesh == ONE


def test_a_leaf_that_is_given_through_is_its_input():
    traced = fp.trace_step(a_step, {"n": torch.tensor(0), "w": torch.ones(2)}, {"x": torch.ones(3)})
    assert traced.graph.outputs["state.w"] == Ref("state.w")
    assert [node.name for node in traced.graph.nodes] == ["add", "mul", "sum_1"]


def test_trees_of_one_leaf_and_no_results():
    traced = fp.trace_step(lambda w, x: (w + x, None), torch.ones(2), torch.ones(2))
    assert (list(traced.graph.inputs), list(traced.graph.outputs)) == (["state.", "batch."], ["state."])
    state, aux = traced.results(interpret(traced.graph, traced.inputs(torch.ones(2), torch.ones(2))))
    assert (state.tolist(), aux) == ([2, 2], {})


def test_only_types_are_read():
    real = fp.trace_step(a_step, {"n": torch.tensor(0), "w": torch.ones(2)}, {"x": torch.ones(3)})
    state = {"n": torch.tensor(0, device="meta"), "w": torch.ones(2, device="meta")}
    meta = fp.trace_step(a_step, state, {"x": torch.ones(3, device="meta")})
    assert meta.as_text() == real.as_text()


def test_nodes_have_the_users_line_and_the_module():
    apply, params, _ = fp.functionalize(nn.Sequential(nn.Linear(4, 2)))

    def loss(params, x):
        return apply(params, {}, x)[0].square().sum()

    def step(params, x):
        grads = torch.func.grad(loss)(params, x)
        return {n: p - grads[n] for n, p in params.items()}, None

    graph = fp.trace_step(step, params, torch.ones(3, 4)).graph
    inside, gradient, update = (graph.node(name) for name in ("addmm", "mm", "sub"))
    assert (inside.path, inside.source) == ("0", f"{__file__}:{loss.__code__.co_firstlineno + 1}")
    assert (gradient.path, gradient.source) == (None, f"{__file__}:{step.__code__.co_firstlineno + 1}")
    assert (update.path, update.source) == (None, f"{__file__}:{step.__code__.co_firstlineno + 2}")


def test_a_tensor_that_it_closes_over_is_a_constant():
    scale = torch.tensor([2.0, 3.0])
    traced = fp.trace_step(lambda w, x: (w * scale, None), torch.ones(2), torch.ones(1))
    (name,) = traced.graph.constants
    assert name.startswith("const.") and torch.equal(traced.graph.constants[name], scale)
    assert traced.results(interpret(traced.graph, traced.inputs(torch.ones(2), torch.ones(1))))[0].tolist() == [2, 3]


def test_a_constant_that_nothing_needs_is_left_out():
    scale = torch.tensor([2.0])

    def step(w, x):
        _ = x * scale
        return w, None

    assert list(fp.trace_step(step, torch.ones(2), torch.ones(1)).graph.inputs) == ["state.", "batch."]


def test_writes_to_new_tensors_become_pure():
    def step(state, x):
        total = torch.zeros_like(x)
        total += x
        total[0] = 7.0
        return state, total

    traced = fp.trace_step(step, {}, torch.ones(3))
    assert not any(writes(node) for node in traced.graph.nodes)
    assert interpret(traced.graph, {"batch.": torch.ones(3)})["aux."].tolist() == [7, 1, 1]


def test_buffers_of_a_module_are_state():
    apply, params, buffers = fp.functionalize(nn.BatchNorm1d(3))

    def step(state, x):
        out, new = apply(state["params"], state["buffers"], x)
        return {"params": state["params"], "buffers": new}, out

    traced = fp.trace_step(step, {"params": params, "buffers": buffers}, torch.ones(5, 3))
    x = torch.arange(15.0).view(5, 3)
    state, out = traced.results(interpret(traced.graph, traced.inputs({"params": params, "buffers": buffers}, x)))
    wanted, new = apply(params, buffers, x)
    assert torch.equal(out, wanted) and all(torch.equal(state["buffers"][n], new[n]) for n in new)
    assert buffers["num_batches_tracked"] == 0 and state["buffers"]["num_batches_tracked"] == 1


def test_the_new_state_is_laid_out_as_the_next_step_takes_it():
    traced = fp.trace_step(lambda w, x: (w.t() + 1, None), torch.ones(3, 3), torch.ones(1))
    assert traced.graph.type_of(traced.graph.outputs["state."].name).stride == (3, 1)


def test_leaves_that_require_a_gradient_do_so_in_the_step():
    def step(w, x):
        (gradient,) = torch.autograd.grad((w * x).sum(), w)
        return w - gradient, None

    w = torch.ones(2, requires_grad=True)
    traced = fp.trace_step(step, w, torch.ones(2))
    assert interpret(traced.graph, traced.inputs(w, torch.full((2,), 3.0)))["state."].tolist() == [-2, -2]
    assert w.grad is None


def test_a_backward_runs_where_the_mesh_is_known():
    seen = []

    def step(state, x):
        seen.append(torch._C._is_multithreading_enabled())
        return state, x

    before = torch._C._is_multithreading_enabled()
    fp.trace_step(step, {}, torch.ones(2))
    assert (seen, torch._C._is_multithreading_enabled()) == ([False], before)
