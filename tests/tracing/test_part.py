"""A part of a model by itself: its gradients are those of autograd, whatever it returns and whoever reads it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import funpipe as fp
from funpipe.tracing import Leaf, Part
from funpipe.tracing.part import gradient_of

W = torch.linspace(-1, 1, 9).reshape(3, 3).requires_grad_()
X = torch.linspace(0, 1, 12).reshape(4, 3).requires_grad_()


def layer(params, buffers, inputs):
    h = torch.tanh(inputs["x"] @ params["w"])
    return {"h": h, "again": h, "skip": inputs["x"], "t": h.t()}, buffers


def part(function=layer, **options):
    return Part(function, {"w": Leaf.of(W)}, {}, {"x": Leaf.of(X)}, **options)


def run(traced, values):
    """All results and gradients of a traced part."""
    wanted = [*traced.outputs.values(), *(t for ts in traced.gradients.values() for t in ts)]
    graph = torch.fx.Graph()
    copies = {}
    graph.graph_copy(traced.graph, copies)
    graph.output(tuple(copies[n] for n in wanted))
    given = [values[n.meta["leaf"][1]].detach() for n in traced.graph.find_nodes(op="placeholder")]
    return torch.fx.GraphModule({}, graph)(*given)


def test_outputs_are_told_without_computing_them():
    found = part().outputs()
    assert found["h"].type.shape == (4, 3) and found["h"].trained
    assert found["t"].type.stride == (4, 1)  # rows, whatever the module's were


@given(
    readers=st.dictionaries(st.sampled_from(["h", "again", "skip", "t"]), st.sets(st.sampled_from("abc"), min_size=1))
)
def test_gradients_are_those_of_autograd(readers):
    traced = part().trace({n: sorted(by) for n, by in readers.items()})
    generator = torch.Generator().manual_seed(0)
    outputs, _ = layer({"w": W}, {}, {"x": X})
    given = {
        gradient_of(n, r): torch.randn(outputs[n].shape, generator=generator) for n, by in readers.items() for r in by
    }
    results = run(traced, {"w": W, "x": X, **given})
    made = dict(zip(traced.gradients, results[len(traced.outputs) :], strict=True))
    roots = [outputs[n] for n in readers]
    total = [sum(given[gradient_of(n, r)] for r in sorted(by)) for n, by in readers.items()]
    wanted = torch.autograd.grad(roots, [W, X], total, allow_unused=True) if roots else (None, None)
    for name, gradient in zip(("w", ".batch.x"), wanted, strict=True):
        if gradient is None:
            assert name not in made or not made[name].any()
        else:
            torch.testing.assert_close(made[name], gradient)


def test_an_input_that_nothing_depends_on_has_a_gradient_of_zeros():
    traced = part(lambda p, b, i: ({"y": p["w"] * 2}, b)).trace({"y": ("next",)})
    assert list(traced.gradients) == ["w", ".batch.x"]
    assert not run(traced, {"w": W, "x": X, gradient_of("y", "next"): W})[-1].any()


def test_a_loss_is_differentiated_by_itself():
    traced = part(lambda p, b, i: ({"loss": (i["x"] @ p["w"]).sum()}, b), loss="loss").trace()
    loss, in_w, in_x = run(traced, {"w": W, "x": X})
    wanted = torch.autograd.grad((X @ W).sum(), [W, X])
    torch.testing.assert_close((in_w, in_x), wanted)
    assert loss == (X @ W).sum()


def test_an_evaluation_has_no_backward():
    traced = part().trace({"h": ("next",)}, differentiate=False)
    assert not traced.gradients and not traced.backward


def test_buffers_come_back():
    module = nn.BatchNorm1d(3)
    apply, params, buffers = fp.functionalize(module)

    def function(p, b, i):
        out, new = apply(p, b, i["x"])
        return {"y": out}, new

    leaves = ({n: Leaf.of(t) for n, t in part.items()} for part in (params, buffers))
    traced = Part(function, *leaves, {"x": Leaf.of(X)}).trace({"y": ("next",)})
    assert "buffer.running_mean" in traced.outputs


def test_random_numbers_are_drawn_only_where_that_is_allowed():
    function = lambda p, b, i: ({"y": torch.rand_like(i["x"]) @ p["w"]}, b)  # noqa: E731
    with pytest.raises(fp.FunpipeError, match="draws random numbers"):
        part(function).trace({"y": ("next",)})
    assert part(function, random=True).trace({"y": ("next",)}).forward


def test_an_error_of_the_function_names_its_line():
    with pytest.raises(fp.FunpipeError, match=r"KeyError at .*test_part.*nothing"):
        part(lambda p, b, i: ({"y": p["nothing"]}, b)).outputs()


def test_an_input_has_a_gradient_of_zeros_where_nobody_reads_what_the_part_returns():
    traced = part().trace({})
    assert list(traced.gradients) == [".batch.x"]
    assert not run(traced, {"w": W, "x": X})[-1].any()


def test_strides_are_those_of_rows_whatever_the_sizes():
    def thin(p, b, i):
        return {"y": i["x"][:, :1].t(), "none": i["x"][:0].t()}, b

    traced = part(thin).trace({"y": ("next",)})
    assert [node.meta["val"].stride() for node in traced.outputs.values()] == [(4, 1), (1, 1)]


def test_a_part_with_a_loss_takes_gradients_of_its_other_outputs():
    function = lambda p, b, i: ({"loss": (i["x"] @ p["w"]).sum(), "y": i["x"] * 2}, b)  # noqa: E731
    traced = part(function, loss="loss").trace({"y": ("next",)})
    *_, in_x = run(traced, {"w": W, "x": X, gradient_of("y", "next"): X})
    torch.testing.assert_close(in_x, (torch.ones(4, 3) @ W.t() + 2 * X).detach())
