import torch
from torch import nn

from funpipe.functional import functionalize
from funpipe.tracing import trace
from funpipe.tracing.where import is_users, noting_where, user_line_of
from tests.tracing.gpt import gpt


def line_of(function, offset):
    return f"{__file__}:{function.__code__.co_firstlineno + offset}"


def test_each_node_has_the_path_of_its_module():
    loss, params, batch = gpt(blocks=2)
    traced = trace(loss, params, batch)
    paths = [n.meta["path"] for n in traced.forward]
    assert paths[0] == "words"
    assert {"layers.0.attention.qkv", "layers.1.mlp.2", "layers.1.norm2", "head", ""} <= set(paths)
    assert traced.modules[:5] == ("", "words", "positions", "layers.0", "layers.0.norm1")


def test_a_node_outside_of_modules_has_no_path():
    traced = trace(lambda p, x: (x @ p).sum(), torch.ones(3, 2), torch.ones(4, 3))
    assert [n.meta["path"] for n in traced.forward] == [None, None]
    assert traced.modules == ()


def test_a_residual_addition_belongs_to_the_module_around_it():
    loss, params, batch = gpt(blocks=1)
    adds = [n for n in trace(loss, params, batch).forward if "add.Tensor" in str(n.target)]
    assert [n.meta["path"] for n in adds] == ["", "layers.0", "layers.0"]


def test_a_module_called_twice_has_one_path():
    module = nn.Sequential(nn.Linear(3, 3))
    apply, params, _ = functionalize(module)
    traced = trace(lambda p, x: apply(p, {}, apply(p, {}, x)[0])[0].sum(), params, torch.ones(4, 3))
    assert [n.meta["path"] for n in traced.forward if "addmm" in str(n.target)] == ["0", "0"]


def test_each_node_has_the_users_line():
    def loss(p, x):
        h = x @ p
        return h.sum()

    traced = trace(loss, torch.ones(3, 2), torch.ones(4, 3))
    assert [n.meta["source"] for n in traced.forward] == [line_of(loss, 1), line_of(loss, 2)]


def test_inside_a_module_of_torch_the_users_line_is_that_of_the_call():
    apply, params, _ = functionalize(nn.Linear(3, 2))

    def loss(p, x):
        return apply(p, {}, x)[0].sum()

    traced = trace(loss, params, torch.ones(4, 3))
    assert {n.meta["source"] for n in traced.forward} == {line_of(loss, 1)}


def test_each_node_names_the_parameters_it_reads_itself_or_through_views():
    traced = trace(lambda p, x: (x @ p["a"].t() + p["b"]).tanh().sum(), {"a": torch.ones(2, 3), "b": torch.ones(2)}, X)
    assert [(n.name, n.meta["params"]) for n in traced.forward] == [
        ("t", ("a",)),
        ("mm", ("a",)),
        ("add", ("b",)),
        ("tanh", ()),
        ("sum_1", ()),
    ]


X = torch.ones(4, 3)


def test_frames_of_torch_and_funpipe_are_not_the_users():
    assert is_users(__file__)
    assert not is_users(torch.nn.functional.__file__)
    assert not is_users(noting_where.__wrapped__.__code__.co_filename)
    assert not is_users("<string>")


def test_a_notebook_cell_is_the_users():
    assert is_users("<ipython-input-3-abc>")
    assert is_users("/tmp/ipykernel_12/345.py")


def test_the_line_of_an_error_is_the_innermost_of_the_users():
    def inner():
        torch.ones(2) @ torch.ones(3)

    try:
        inner()
    except RuntimeError as error:
        assert user_line_of(error) == f"{line_of(inner, 1)}: torch.ones(2) @ torch.ones(3)"


def test_hooks_go_when_the_function_raises():
    module = nn.Linear(3, 2)
    try:
        with noting_where():
            module(torch.ones(4, 5))
    except RuntimeError:
        pass
    with noting_where() as paths:
        pass
    module(torch.ones(4, 3))
    assert paths.called == {}
