"""Parts in a chain, whatever they return and read and however their leaves are called: as with eager autograd."""

import pytest
import torch

import funpipe as fp
from tests.backends.ranks import Ranks
from tests.programs.chains import Chain, Link, check, numbers, weights
from tests.programs.random_chains import random_chain

SCHEDULES = pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "zbh1"])
X = {"x": None}
FROM_FIRST = {"x": (0, "y")}


def product(*names):
    def function(params, buffers, inputs):
        x = sum(inputs.values())
        for name in names:
            x = torch.tanh(x @ params[name])
        return {"y": x, "loss": x.square().sum()}, buffers

    return function


def first(function, params=None, buffers=None, **options):
    """A chain of a function and a loss that reads all it returns."""
    params = weights("w") if params is None else params
    outputs = function(params, dict(buffers or {}), {"x": numbers(0)})[0]
    return Chain([Link(function, X, params, buffers or {}, **options), Link(read, {n: (0, n) for n in outputs}, {})])


def read(params, buffers, inputs):
    found = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in inputs.values()]
    return {"loss": sum((t.double() * t.double().tanh()).sum() for t in found)}, buffers


@SCHEDULES
@pytest.mark.parametrize(
    "names", [("batch.x", "batch.w"), ("1.x", "0.w"), ("a-b", "a@1", "a b", "class"), ("buffer.w",)]
)
def test_parameters_may_have_any_names(names, schedule):
    links = [Link(product(*names), X, weights(*names)), Link(product(*names), FROM_FIRST, weights(*names))]
    check(Chain(links), schedule)


def test_names_of_outputs_and_inputs_are_told_apart():
    two = Link(lambda p, b, i: ({"y": i["x"] @ p["w"], "y.1": torch.tanh(i["x"] @ p["w"])}, b), X, weights("w"))
    inner = Link(product("w"), {"2.x": (0, "y"), "x": (0, "y.1")}, weights("w"))
    check(Chain([two, inner, Link(product("w"), {"k": (1, "y"), "x": (0, "y.1")}, weights("w"))]))


def same(params, buffers, inputs):
    h = inputs["x"] @ params["w"]
    return {
        "y": h,
        "again": h,
        "view": h.view(-1),
        "rows": h[1:],
        "t": h.t(),
        "w": params["w"],
        "x": inputs["x"],
    }, buffers


def thin(params, buffers, inputs):
    h = inputs["x"] @ params["w"]
    return {"column": h[:, :1].t(), "row": h[:1].t(), "none": h[:0], "wide": h[:1].expand(4, 4)}, buffers


def whole(params, buffers, inputs):
    h = inputs["x"] @ params["w"]
    return {"y": h, "int": h.long(), "half": h.bfloat16(), "complex": torch.complex(h, 2 * h).conj()}, buffers


@SCHEDULES
@pytest.mark.parametrize("function", [same, thin, whole])
def test_outputs_may_be_anything(function, schedule):
    check(first(function), schedule)


@SCHEDULES
def test_an_output_that_no_loss_depends_on_gives_no_gradient(schedule):
    unread = Link(product("w"), FROM_FIRST, weights("w"))
    end = Link(lambda p, b, i: ({"loss": (i["x"] @ p["w"]).sum()}, b), FROM_FIRST, weights("w"))
    check(Chain([Link(product("w"), X, weights("w")), unread, end]), schedule)


@SCHEDULES
def test_parameters_may_all_be_frozen_where_an_argument_wants_its_gradient(schedule):
    frozen = {"w": numbers(1)}
    links = [Link(product("w"), X, frozen, wants_gradient=True), Link(product("w"), FROM_FIRST, frozen)]
    check(Chain(links), schedule)


def counted(params, buffers, inputs):
    x = inputs["x"] @ params["w"] * buffers["n@0"]
    return {"y": x, "buffer": buffers["n@0"]}, {"n@0": buffers["n@0"] * 0.5 + x.detach(), "m": buffers["n@0"]}


@SCHEDULES
def test_buffers_are_read_before_they_change(schedule):
    check(first(counted, buffers={"n@0": numbers(5), "m": numbers(6)}), schedule)


def test_a_loss_may_have_readers_of_other_outputs():
    chain = Chain([Link(product("w"), X, weights("w"))])
    part = chain._parts()[0]
    traced = part.trace({"y": ("next",)})
    assert "gradient.y<-next" in traced.batch and list(traced.gradients) == ["w"]


@SCHEDULES
@pytest.mark.parametrize("seed", range(5))
def test_random_chains(seed, schedule):
    check(random_chain(seed), schedule)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(5, 100))
def test_more_random_chains(seed):
    check(random_chain(seed), ["gpipe", "1f1b", "zbh1"][seed % 3])


@pytest.mark.parametrize("backend", ["regions", "step"])
def test_a_gradient_of_other_strides_is_added_in_every_backend(backend):
    turned = Link(lambda p, b, i: ({"y": i["x"] * (p["w"] * p["v"]).t()}, b), X, weights("w", "v"))
    chain = Chain([turned, Link(read, FROM_FIRST, {})])
    check(chain, "1f1b", lambda programs, inputs: Ranks(backend, programs).run(inputs))


def dropped(params, buffers, inputs):
    h = inputs["x"] @ params["w"]
    dropped = torch.dropout(h, 0.5, True)
    noise = torch.rand(4, 4, dtype=h.dtype)
    order = torch.randperm(4)
    y = (dropped + h * noise)[order]
    return {"y": y, "kept": (dropped != 0).double() * 2, "noise": noise, "order": order, "x": inputs["x"]}, buffers


def passed_on(params, buffers, inputs):
    return {"loss": (inputs["y"] @ params["w"]).tanh().sum(), **inputs}, buffers


@pytest.mark.parametrize("schedule", ["gpipe", "zbh1"])
@pytest.mark.parametrize("backend", ["interpret", "step"])
def test_random_numbers_are_drawn_once(backend, schedule):
    """The backward is that of the numbers that the forward returned, which differ between microbatches."""
    w, v = weights("w")["w"], weights("_", "w")["w"]
    names = ("y", "kept", "noise", "order", "x")
    chain = Chain([Link(dropped, X, {"w": w}), Link(passed_on, {n: (0, n) for n in names}, {"w": v})])
    programs = chain.programs(schedule)
    found = chain.found(programs, Ranks(backend, programs).run(chain.inputs(programs)))
    total = 0
    for i in range(2):
        kept, noise, order, x = (found[f"1.{n}@{i}"] for n in names[1:])
        h = x @ w
        total = total + ((h * kept + h * noise)[order] @ v).tanh().sum()
    for name, wanted in zip(("grad.0.w", "grad.1.w"), torch.autograd.grad(total, [w, v]), strict=True):
        torch.testing.assert_close(found[name], wanted)
    assert not torch.equal(found["1.noise@0"], found["1.noise@1"])


def test_writing_to_an_input_in_place_is_refused():
    def writing(params, buffers, inputs):
        return {"y": inputs["x"].add_(1) @ params["w"]}, buffers

    with pytest.raises(fp.FunpipeError, match="writes to the batch leaf 'x' in place"):
        Chain([Link(writing, X, weights("w")), Link(read, FROM_FIRST, {})]).programs("gpipe")
