import pytest
import torch

from funpipe._errors import CommunicationError, FunpipeTypeError
from funpipe._typing import MeshShape
from funpipe.functional import all_gather, on_mesh, pmax, pmean, pmin, psum, reduce_scatter
from tests.simulated import nodes, on_ranks

THREE = MeshShape(pp=1, dp=3)
SQUARE = MeshShape(pp=2, dp=2)


def values(count, *shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(count)
    return [torch.randint(-9, 10, shape, generator=generator).to(dtype) for _ in range(count)]


def same_on_all(found, wanted):
    for each in found:
        torch.testing.assert_close(each, wanted, rtol=0, atol=0)


# What the ranks get


def test_reductions_combine_the_ranks_element_by_element():
    xs = values(3, 4, 2)
    found = on_ranks(lambda x: [f(x, "dp") for f in (psum, pmean, pmax, pmin)], xs, THREE)
    stacked = torch.stack(xs)
    same_on_all(found, [stacked.sum(0), stacked.sum(0) / 3, stacked.amax(0), stacked.amin(0)])


def test_axes_of_a_square():
    xs = values(4, 2)
    found = on_ranks(lambda x: [psum(x, "dp"), psum(x, "pp"), psum(x, ("dp", "pp")), psum(x, ("pp", "dp"))], xs, SQUARE)
    for rank, (dp, pp, both, turned) in enumerate(found):
        torch.testing.assert_close(dp, xs[rank % 2] + xs[rank % 2 + 2])
        torch.testing.assert_close(pp, xs[rank - rank % 2] + xs[rank - rank % 2 + 1])
        torch.testing.assert_close(both, sum(xs))
        torch.testing.assert_close(turned, sum(xs))


def test_trees_keep_their_structure():
    xs = [{"a": a, "b": [b, None]} for a, b in zip(values(3, 3), values(3, 6, 2), strict=True)]
    found = on_ranks(lambda x: psum(x, "dp"), xs, THREE)
    same_on_all(found, {"a": sum(x["a"] for x in xs), "b": [sum(x["b"][0] for x in xs), None]})


# Dtypes and shapes


def test_booleans_are_counted_and_compared():
    xs = [torch.tensor([True, False, False]), torch.tensor([True, True, False]), torch.tensor([True, True, False])]
    found = on_ranks(lambda x: [psum(x, "dp"), pmax(x, "dp"), pmin(x, "dp"), reduce_scatter(x, "dp")], xs, THREE)
    for rank, (total, most, least, part) in enumerate(found):
        assert total.tolist() == [3, 2, 0] and total.dtype == torch.int64
        assert most.tolist() == [True, True, False] and least.tolist() == [True, False, False]
        assert part.tolist() == [[3, 2, 0][rank]]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bfloat16, torch.float64, torch.complex64])
def test_dtypes_are_kept(dtype):
    xs = values(3, 3, dtype=dtype)
    found = on_ranks(lambda x: [psum(x, "dp"), all_gather(x, "dp"), reduce_scatter(x, "dp")], xs, THREE)
    for rank, each in enumerate(found):
        torch.testing.assert_close(each, [sum(xs), torch.cat(xs), sum(xs)[rank : rank + 1]], rtol=0, atol=0)


def test_the_mean_of_integers_is_no_integer():
    found = on_ranks(lambda x: pmean(x, "dp"), [torch.tensor(i) for i in (1, 1, 2)], THREE)
    same_on_all(found, torch.tensor(4 / 3))


def test_a_transposed_value_is_sent_in_rows():
    xs = values(3, 4, 6)
    same_on_all(on_ranks(lambda x: psum(x.t(), "dp"), xs, THREE), sum(xs).t().contiguous())


# What is traced


def test_a_collective_starts_and_waits():
    assert nodes(lambda x: psum(x, "dp"), torch.ones(2), THREE) == ["all_reduce", "wait_tensor"]
    assert nodes(lambda x: all_gather(x, "dp"), torch.ones(2), THREE) == ["all_gather", "wait_tensor"]
    assert nodes(lambda x: reduce_scatter(x, "dp"), torch.ones(3), THREE) == ["reduce_scatter", "wait_tensor"]


@pytest.mark.parametrize("collective", [psum, pmax, pmin, all_gather, reduce_scatter])
def test_one_rank_communicates_with_nobody(collective):
    assert nodes(lambda x: collective(x, "pp"), torch.ones(2), THREE) == []


# Errors


@pytest.mark.parametrize("collective", [psum, pmean, pmax, pmin, all_gather, reduce_scatter])
def test_outside_a_step(collective):
    with pytest.raises(CommunicationError, match=rf"^{collective.__name__} was called outside a step.*fp\.trace_step"):
        collective(torch.ones(2), "dp")


def test_an_unknown_axis():
    with on_mesh(THREE), pytest.raises(CommunicationError, match=r"psum: the mesh has no axis 'data'; use 'dp', 'pp'"):
        psum(torch.ones(2), "data")


def test_a_leaf_that_is_no_tensor():
    with on_mesh(THREE), pytest.raises(FunpipeTypeError, match=r"leaf 'n' is of type int.*pass torch\.as_tensor\(x\)"):
        psum({"n": 3}, "dp")


def test_complex_numbers_have_no_order():
    with on_mesh(THREE), pytest.raises(FunpipeTypeError, match=r"pmax: the only leaf is complex.*pass x\.abs\(\)"):
        pmax(torch.ones(2, dtype=torch.complex64), "dp")
