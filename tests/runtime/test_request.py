"""What becomes of the ranks' parts, and what is refused before anything is sent."""

import pytest
import torch

from funpipe._errors import CommunicationError
from funpipe.runtime.transports import request


def filled(makes, tensors):
    """The results on every rank, from each rank's tensors."""
    wanted = [makes(rank) for rank in range(len(tensors))]
    parts = [torch.zeros(wanted[0].given.nbytes, dtype=torch.uint8) for _ in tensors]
    for mine, part in zip(tensors, parts, strict=True):
        wanted[0].given.put(mine, part)
    outs = [torch.zeros(each.results.nbytes, dtype=torch.uint8) for each in wanted]
    for each, out in zip(wanted, outs, strict=True):
        each.fill(parts, out)
    return [each.results.views(out) for each, out in zip(wanted, outs, strict=True)]


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8])
def test_a_sum_is_added_in_the_order_of_the_ranks(ranks, dtype):
    """Also where it is more than is added at a time; in 16 bits every addition rounds."""
    tensors = [[(torch.randn(2**16 + 5) * 10).to(dtype)] for _ in range(ranks)]
    total = tensors[0][0]
    for (other,) in tensors[1:]:
        total = total + other
    found = filled(lambda rank: request.all_reduce(tensors[0], "sum", ranks, rank), tensors)
    assert all(torch.equal(mine, total) for (mine,) in found)


@pytest.mark.parametrize(("reduce", "expected"), [("max", [3.0, 5.0]), ("min", [1.0, -2.0])])
def test_the_largest_and_the_least(reduce, expected):
    tensors = [[torch.tensor([1.0, 5.0])], [torch.tensor([3.0, -2.0])]]
    found = filled(lambda rank: request.all_reduce(tensors[0], reduce, 2, rank), tensors)
    assert [mine.tolist() for (mine,) in found] == [expected, expected]


def test_complex_numbers_are_added():
    tensors = [[torch.tensor([1 + 2j])], [torch.tensor([3 - 1j])]]
    assert filled(lambda rank: request.all_reduce(tensors[0], "sum", 2, rank), tensors)[0][0].tolist() == [4 + 1j]


def test_shares_of_a_sum_and_rows_of_all():
    tensors = [[torch.arange(6.0).view(3, 2) + rank] for rank in range(3)]
    shares = filled(lambda rank: request.reduce_scatter(tensors[0][0], "sum", 3, rank), tensors)
    assert [mine.tolist() for (mine,) in shares] == [[[3, 6]], [[9, 12]], [[15, 18]]]
    rows = filled(lambda rank: request.all_gather(tensors[0][0], 3, rank), tensors)
    assert all(torch.equal(mine, torch.cat([t for (t,) in tensors])) for (mine,) in rows)


def test_parts_of_another_size_are_an_error():
    wanted = request.all_reduce([torch.ones(2)], "sum", 2, 0)
    parts = [torch.zeros(8, dtype=torch.uint8), torch.zeros(12, dtype=torch.uint8)]
    with pytest.raises(RuntimeError, match="rank 1 of the group gave 12 bytes, rank 0 8"):
        wanted.fill(parts, torch.zeros(8, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: request.all_reduce([torch.ones(1).bool()], "max", 2, 0), "max over ranks of bool.*convert .* int32"),
        (lambda: request.all_reduce([torch.ones(1).cfloat()], "max", 2, 0), "max over ranks of complex64 is not"),
        (lambda: request.all_reduce([torch.ones(1)], "mean", 2, 0), "reduce is 'mean'; use one of 'sum', 'max', 'min'"),
        (lambda: request.all_gather(torch.tensor(1.0), 2, 0), r"has none: use x.reshape\(1\) before it"),
        (lambda: request.reduce_scatter(torch.ones(5, 2), "sum", 2, 0), r"\(5, 2\) over 2 ranks: 5 rows.* pad .* to 6"),
    ],
)
def test_what_no_transport_can_do_is_refused(make, text):
    with pytest.raises(CommunicationError, match=text):
        make()
