import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe._errors import GraphError
from funpipe.graphs import check, find, from_fx, interpret
from funpipe.passes import split_lists
from funpipe.passes.optimizer.list_calls import is_list_call, read_lists
from tests.passes.optimizer.steps import assert_same_bits

THREE = [torch.arange(i + 1.0) + i for i in range(3)]


def traced(function, *tensors):
    return from_fx(make_fx(function, tracing_mode="fake")(*tensors).graph)


def values(graph, tensors):
    return interpret(graph, dict(zip(graph.inputs, tensors, strict=True)))


@pytest.mark.parametrize(
    "function",
    [
        lambda *x: torch._foreach_add(list(x), 1.5),
        lambda *x: torch._foreach_mul(list(x), [2.0, 3.0, 4.0]),
        lambda *x: torch._foreach_addcdiv(list(x), list(x), [v + 1 for v in x], value=0.5),
        lambda *x: torch._foreach_norm(list(x)),
        lambda *x: torch.ops.aten._fused_sgd(
            list(x), list(x), [], weight_decay=0.1, momentum=0.0, lr=0.1, dampening=0.0, nesterov=False,
            maximize=False, is_first_step=False,
        )[0],
    ],
    ids=["scalar", "scalars", "three lists", "norm", "fused"],
)  # fmt: skip
@pytest.mark.parametrize("parts", [[[0], [1], [2]], [[2, 0], [1]], [[], [0, 1, 2]]])
def test_parts_give_the_bits_of_the_whole(function, parts):
    graph = traced(function, *THREE)
    (whole,) = find(graph, is_list_call)
    split = split_lists(graph, whole, parts)
    check(split)
    assert len(find(split, is_list_call)) == sum(map(bool, parts))
    assert split.outputs == graph.outputs
    assert_same_bits(values(split, THREE), values(graph, THREE))


def test_rows_of_a_call_by_leaf():
    graph = traced(lambda *x: torch._foreach_lerp(list(x[:2]), list(x[2:]), 0.5), *THREE, THREE[0])
    call = read_lists(graph, graph.node("_foreach_lerp"))
    assert call.count == 2
    assert [len(row) for row in call.lists["tensors1"]] == [2]
    assert call.others == {"weight": 0.5}
    assert call.names == ("getitem", "getitem_1")


@pytest.mark.parametrize("parts", [[[0], [1]], [[0, 0], [1, 2]], [[0, 1, 2, 3]]])
def test_parts_that_are_no_partition(parts):
    graph = traced(lambda *x: torch._foreach_neg(list(x)), *THREE)
    with pytest.raises(GraphError, match=r"_foreach_neg .* has 3 leaves, and the parts are .*: name every index"):
        split_lists(graph, "_foreach_neg", parts)


def test_an_operator_without_lists():
    graph = traced(lambda x: (x.sin(),), THREE[0])
    with pytest.raises(GraphError, match=r"sin \(aten.sin.default\) is no call over lists .*: pass a _foreach_"):
        split_lists(graph, "sin", [[0]])


def test_a_reader_of_the_whole_list():
    graph = traced(lambda *x: torch._foreach_neg(list(x)), *THREE)
    graph = graph.replace(outputs={"aux.all": graph.outputs["out.0"].__class__("_foreach_neg")})
    with pytest.raises(GraphError, match=r"an output reads the whole list that _foreach_neg .*: let it read the items"):
        split_lists(graph, "_foreach_neg", [[0], [1, 2]])
