"""What all ranks do alike; with one process here, on two ranks in `tests/api/test_two_ranks.py`."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import TransportError
from funpipe.runtime.together import breaking, require_same_key, transport_of


@pytest.fixture
def alone():
    mesh = fp.mesh(pp=1, device="cpu")
    yield mesh
    mesh.close()


def test_all_steps_of_a_mesh_share_its_transport(alone):
    assert transport_of(alone) is transport_of(alone)


def test_a_closed_mesh_is_forgotten(alone):
    first = transport_of(alone)
    alone.close()
    assert alone.closed
    again = fp.mesh(pp=1, device="cpu")
    assert transport_of(again) is not first
    again.close()


def test_an_interrupted_step_ends_the_use_of_the_mesh(alone):
    transport = transport_of(alone)
    with pytest.raises(KeyboardInterrupt), breaking(transport):
        raise KeyboardInterrupt
    with pytest.raises(TransportError, match="did not finish.*start the processes again"):
        transport.all_gather_start(torch.zeros(1), "world")


def test_keys_are_compared_where_there_are_others():
    require_same_key(torch.tensor(3), None)


def test_one_rank_agrees_with_itself(alone):
    require_same_key(torch.tensor(3), transport_of(alone))
    require_same_key(None, transport_of(alone))
