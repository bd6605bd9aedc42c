"""A mesh of a group: its ranks are the pipeline's, whatever their order, and it may be made again."""

import inspect

import pytest
import torch
import torch.distributed as dist

import funpipe as fp
from funpipe.runtime import mesh_of, transport_of

SHUFFLED = [2, 0, 1]


def places():
    """On each rank its place in a group of all processes in another order, what the first one says, and all numbers."""
    torch.set_num_threads(1)
    everybody = fp.mesh(pp=3, device="cpu")
    found = []
    for _ in range(2):
        part = mesh_of(dist.new_group(SHUFFLED, sort_ranks=False), device="cpu", timeout=60)
        transport = transport_of(part)
        first = torch.tensor([dist.get_rank()])
        transport.broadcast(first, 0, "pp")
        transport.tell_number(dist.get_rank())
        found.append((part.pp_rank, first.item(), transport.numbers_told()))
        part.close()
    everybody.close()
    return found


@pytest.mark.skipif(
    "sort_ranks" not in inspect.signature(dist.new_group).parameters, reason="this torch orders the ranks of groups"
)
def test_the_order_is_the_groups():
    made = fp.launch(places, 3)
    assert [of_one[0] for of_one in made] == [(SHUFFLED.index(rank), 2, SHUFFLED) for rank in range(3)]
    assert all(again == first for first, again in made)
