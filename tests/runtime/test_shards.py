import pytest
import torch

import funpipe as fp
from funpipe._errors import CommunicationError
from funpipe.runtime import shards
from funpipe.runtime.shards import shard, unshard

TREE = {"w": torch.arange(12.0).reshape(4, 3), "deep": {"b": torch.arange(4.0)}, "lr": torch.tensor(0.1)}


class Second:
    """The second of two replicas of a pipeline of two ranks, as far as cutting needs it."""

    shape = fp.MeshShape(pp=2, dp=2)
    dp_rank, pp_rank = 1, 0


def test_each_rank_gets_its_part_along_the_dimension_of_the_leaf():
    part = shard(TREE, Second(), {"w": 0, "deep": 0, "lr": None})
    assert part["w"].tolist() == TREE["w"][2:].tolist()
    assert part["deep"]["b"].tolist() == [2, 3]
    assert part["lr"] == 0.1


def test_ranks_of_both_axes_are_numbered_as_the_mesh_numbers_them():
    assert shard(torch.arange(8), Second(), 0, ("dp", "pp")).tolist() == [4, 5]
    assert shard(torch.arange(8), Second(), -1, "pp").tolist() == [0, 1, 2, 3]


def test_parts_are_copies():
    assert shard(TREE, None, {"w": 1, "deep": None, "lr": None})["w"].data_ptr() != TREE["w"].data_ptr()


def test_alone_the_whole_is_the_part():
    dims = {"w": 1, "deep": 0, "lr": None}
    again = unshard(shard(TREE, None, dims), None, dims)
    assert torch.equal(again["w"], TREE["w"]) and torch.equal(again["deep"]["b"], TREE["deep"]["b"])


class Doubling:
    """A communicator of two ranks that hold the same."""

    def all_gather(self, x, axis):
        return torch.cat([x, x])

    def wait(self, x):
        return x


def test_the_whole_is_gathered_along_the_dimension_of_the_leaf(monkeypatch):
    place = type("At", (), {"communicator": Doubling()})
    monkeypatch.setattr(shards.Place, "of", lambda mesh: place)
    assert unshard({"w": torch.ones(2, 3)}, Second(), 1)["w"].shape == (2, 6)


@pytest.mark.parametrize(
    ("tree", "dims", "said"),
    [
        ({"w": torch.ones(3)}, 0, r"shard: leaf 'w' is float32\[3\], and its dimension 0 cannot be shared by 2 ranks"),
        ({"w": torch.ones(4)}, 1, r"shard: leaf 'w' is float32\[4\] and has no dimension 1; give one"),
        ({"w": torch.ones(4)}, {"v": 0}, "shard: dims {'v': 0} is no prefix of the tree"),
        ({"w": 4}, 0, "shard: leaf 'w' is int, not a tensor"),
    ],
)
def test_what_cannot_be_cut_is_an_error(tree, dims, said):
    with pytest.raises(CommunicationError, match=said):
        shard(tree, Second(), dims)


def test_an_unknown_axis_is_an_error():
    with pytest.raises(CommunicationError, match="the mesh has no axis 'tp'"):
        shard(TREE, None, None, "tp")
