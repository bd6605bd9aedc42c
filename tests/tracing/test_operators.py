import torch
import torch.nn.functional as F
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe.tracing.operators import base_of, is_constant, is_random, is_view, mutates

X = torch.ones(2, 4)


def nodes_of(function):
    graph = make_fx(function, tracing_mode="fake")(X).graph
    return [n for n in graph.nodes if n.op == "call_function"]


def last_of(function):
    return nodes_of(function)[-1]


def test_views_share_memory():
    assert is_view(last_of(lambda x: x.t()))
    assert is_view(last_of(lambda x: x.view(8)))
    assert is_view(last_of(lambda x: x.chunk(2)[1]))
    assert not is_view(last_of(lambda x: x.sin()))
    assert not is_view(last_of(lambda x: x.max(0).values))


def test_views_that_hide_it_are_views():
    """`reshape` of a transposed tensor is a copy and a view of the copy, whose schema does not say that it is one."""
    copy, view = nodes_of(lambda x: x.t().reshape(8))[-2:]
    assert not is_view(copy)
    assert is_view(view) and base_of(view) is copy


def test_parts_of_an_unsafe_split_are_views():
    assert is_view(last_of(lambda x: torch.unsafe_split(x, 1)[0]))


def test_an_operation_in_place_is_no_view():
    assert not is_view(last_of(lambda x: x.sin().relu_()))
    assert mutates(last_of(lambda x: x.sin().relu_()))


def test_the_base_of_a_view_of_a_view():
    sin, *_, view = nodes_of(lambda x: x.sin().t()[0].view(2, 1))
    assert base_of(view) is sin
    assert base_of(sin) is sin


def test_random_operators():
    assert any(is_random(n) for n in nodes_of(lambda x: F.dropout(x)))
    assert not any(is_random(n) for n in nodes_of(lambda x: F.dropout(x, 0.0)))


def test_attention_is_random_with_dropout_alone():
    def nodes(**options):
        return nodes_of(
            lambda x: F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None], **options)
        )

    assert not any(is_random(n) for n in nodes())
    assert not any(is_random(n) for n in nodes(is_causal=True))
    assert any(is_random(n) for n in nodes(dropout_p=0.5))


def test_constants_are_made_from_numbers():
    assert is_constant(last_of(lambda x: torch.arange(3)))
    assert not is_constant(last_of(lambda x: torch.ones_like(x)))
