import torch
from torch.nn import functional as F

from funpipe import _compat
from funpipe._typing import TensorType
from funpipe.backends.rewrites import rewritten
from tests.backends.rewrites.graphs import assert_same, called, graph_of, rewritten_for

aten = torch.ops.aten
G = torch.Generator().manual_seed(0)


def test_what_needs_no_rewrite_stays():
    x = torch.randn(4, 6, generator=G)

    def plain(x):
        return aten.sum.dim_IntList(aten.gelu.default(aten.t.default(x)), [0]), x

    assert called(assert_same(plain, [x], 0)) == called(graph_of(plain, [x]))


def test_in_place_operators_stay_in_their_order():
    accumulator, a, b = (torch.randn(160, 160, generator=G) for _ in range(3))

    def accumulate(accumulator, a, b):
        before = aten.clone.default(accumulator)
        aten.add_.Tensor(accumulator, aten.mm.default(a, b))
        doubled = aten.mul.Tensor(accumulator, 2)
        aten.copy_.default(accumulator, doubled)
        return before, doubled

    module = rewritten_for(accumulate, [accumulator, a, b])
    assert called(module) == [
        "aten.clone.default",
        "funpipe.mm.default",
        "aten.add_.Tensor",
        "aten.mul.Tensor",
        "aten.copy_.default",
    ]
    mine, theirs = accumulator.clone(), accumulator.clone()
    torch.testing.assert_close(module(mine, a, b), accumulate(theirs, a, b))
    torch.testing.assert_close(mine, theirs)


def test_every_node_has_a_value_of_its_type():
    x, weight = torch.randn(160, 96, generator=G), torch.randn(96, 192, generator=G)
    module = rewritten_for(lambda x, w: aten.split.Tensor(aten.mm.default(x, w), 64, 1), [x, weight])
    nodes = [n for n in module.graph.nodes if n.op != "output"]
    assert all("val" in n.meta for n in nodes)
    assert [TensorType.of(n.meta["val"]) for n in nodes[:2]] == [TensorType.of(x), TensorType.of(weight)]


def test_the_given_graph_is_not_changed():
    x = torch.randn(160, 160, generator=G)
    module = graph_of(lambda x: (aten.mm.default(x, x),), [x])
    before = module.code
    rewritten(module, [TensorType.of(x)])
    assert module.code == before


def test_the_same_graph_is_rewritten_to_the_same():
    x = torch.randn(2, 4, 8, 8, generator=G)
    once, again = (rewritten_for(lambda x: (F.scaled_dot_product_attention(x, x, x),), [x]) for _ in range(2))
    assert once.code == again.code


def test_the_compiler_takes_it_without_a_copy_of_a_weight():
    """Compiled, because only the generated code shows whether the compiler lays a transposed weight out anew."""
    x, weight = torch.randn(160, 96, generator=G), torch.randn(192, 96, generator=G)
    module = rewritten_for(lambda x, w: (aten.mm.default(x, aten.t.default(w)),), [x, weight])
    with _compat.generated_code() as code, torch.no_grad(), _compat.quiet_compile():
        compiled = torch.compile(module, fullgraph=True, dynamic=False)
        torch.testing.assert_close(compiled(x, weight), module(x, weight), rtol=0, atol=0)
    assert "cpp_fused" not in code[-1].partition("def call(")[2]
