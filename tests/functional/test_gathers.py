import pytest
import torch

from funpipe._errors import CommunicationError
from funpipe._typing import MeshShape
from funpipe.functional import all_gather, on_mesh, reduce_scatter
from tests.simulated import nodes, on_ranks

THREE = MeshShape(pp=1, dp=3)
SQUARE = MeshShape(pp=2, dp=2)


def values(count, *shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(count)
    return [torch.randint(-9, 10, shape, generator=generator).to(dtype) for _ in range(count)]


def same_on_all(found, wanted):
    for each in found:
        torch.testing.assert_close(each, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_a_gather_puts_the_ranks_one_after_the_other(dim):
    xs = values(3, 2, 3, 4)
    same_on_all(on_ranks(lambda x: all_gather(x, "dp", dim), xs, THREE), torch.cat(xs, dim))


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_a_scatter_gives_each_rank_its_share_of_the_sum(dim):
    xs = values(3, 3, 6, 9)
    found = on_ranks(lambda x: reduce_scatter(x, "dp", dim), xs, THREE)
    for each, wanted in zip(found, sum(xs).chunk(3, dim), strict=True):
        torch.testing.assert_close(each, wanted, rtol=0, atol=0)


def test_a_gather_over_both_axes_is_in_the_order_of_the_mesh():
    xs = [torch.tensor([i]) for i in range(4)]
    same_on_all(on_ranks(lambda x: all_gather(x, ("dp", "pp")), xs, SQUARE), torch.arange(4))


def test_a_gather_undoes_a_scatter_of_equal_parts():
    xs = values(3, 6)
    same_on_all(on_ranks(lambda x: all_gather(reduce_scatter(x, "dp"), "dp"), xs, THREE), sum(xs))


def test_a_number_is_gathered_as_one_element():
    found = on_ranks(lambda x: all_gather(x, "dp"), [torch.tensor(float(i)) for i in range(3)], THREE)
    same_on_all(found, torch.arange(3.0))


@pytest.mark.parametrize("collective", [all_gather, reduce_scatter])
def test_gathers_need_the_order_of_the_mesh(collective):
    with on_mesh(SQUARE), pytest.raises(CommunicationError, match=r"along dp, then pp: pass \('dp', 'pp'\)\.$"):
        collective(torch.ones(4), ("pp", "dp"))


def test_a_dimension_that_cannot_be_shared():
    wanted = r"dimension 1 of leaf 'w', float32\[3,4\], is 4, which 3 ranks along 'dp' .*; pad it to 6\.$"
    with on_mesh(THREE), pytest.raises(CommunicationError, match=wanted):
        reduce_scatter({"w": torch.ones(3, 4)}, "dp", dim=1)


def test_a_dimension_that_is_not_there():
    with on_mesh(THREE), pytest.raises(CommunicationError, match=r"no dimension 2; pass one from 0 to 1\."):
        all_gather(torch.ones(3, 4), "dp", dim=2)
    with (
        on_mesh(THREE),
        pytest.raises(CommunicationError, match=r"the only leaf is float32\[\] and has no dimension 0"),
    ):
        reduce_scatter(torch.ones(()), "dp")


def test_trees_of_parts():
    xs = [{"a": a, "b": [b, None]} for a, b in zip(values(3, 3), values(3, 6, 2), strict=True)]
    found = on_ranks(lambda x: all_gather(reduce_scatter(x, "dp"), "dp"), xs, THREE)
    same_on_all(found, {"a": sum(x["a"] for x in xs), "b": [sum(x["b"][0] for x in xs), None]})


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.bfloat16, torch.complex64])
def test_dtypes_are_gathered_as_they_are(dtype):
    xs = [x.to(dtype) for x in values(3, 3)]
    same_on_all(on_ranks(lambda x: all_gather(x, "dp"), xs, THREE), torch.cat(xs))


@pytest.mark.parametrize(("collective", "name"), [(all_gather, "all_gather"), (reduce_scatter, "reduce_scatter")])
def test_a_part_starts_and_waits_and_one_rank_has_the_whole(collective, name):
    assert nodes(lambda x: collective(x, "dp"), torch.ones(3), THREE) == [name, "wait_tensor"]
    assert nodes(lambda x: collective(x, "pp"), torch.ones(3), THREE) == []
