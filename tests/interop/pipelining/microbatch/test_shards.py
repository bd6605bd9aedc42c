import pytest
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Partial, Replicate, Shard

from funpipe.interop.pipelining.microbatch import split_args_kwargs_into_chunks
from funpipe.interop.pipelining.microbatch.shards import rows_of_chunks, shards
from tests.interop.pipelining.meshes import fake_ranks, ragged, shard, square


@pytest.fixture
def four_ranks():
    with fake_ranks(4):
        yield


@pytest.fixture
def six_ranks():
    with fake_ranks(6):
        yield


@pytest.mark.usefixtures("four_ranks")
def test_rows_lie_on_the_ranks_in_turn_and_the_last_ones_have_fewer():
    sharded = shard(4, Shard(0))
    assert shards(16, sharded, 0) == [4, 4, 4, 4]
    assert shards(13, sharded, 0) == [4, 4, 4, 1]
    assert shards(5, sharded, 0) == [2, 2, 1, 0]
    assert shards(16, sharded, 1) == [16]


@pytest.mark.usefixtures("four_ranks")
@pytest.mark.parametrize("placement", [Replicate(), Partial()])
def test_rows_that_are_not_sharded_are_one_shard(placement):
    assert shards(7, shard(7, placement), 0) == [7]


@pytest.mark.usefixtures("four_ranks")
def test_two_dimensions_of_a_mesh_may_share_the_rows():
    assert shards(7, shard(2, Shard(0), Shard(0), mesh=square()), -2) == [2, 2, 2, 1]


@pytest.mark.usefixtures("four_ranks")
def test_a_chunk_has_some_rows_of_every_shard():
    assert rows_of_chunks(shard(4, Shard(0)), 0, 3, "x") == [8, 4, 4]
    assert rows_of_chunks(ragged(4, 14, Shard(0)), 0, 2, "x") == [7, 7]
    assert rows_of_chunks(shard(4, Replicate()), 0, 3, "x") == [2, 1, 1]


@pytest.mark.usefixtures("four_ranks")
def test_the_smallest_shard_limits_the_number_of_chunks():
    args, _ = split_args_kwargs_into_chunks((ragged(4, 14, Shard(0)),), {}, 4)
    assert len(args) == 2


@pytest.mark.usefixtures("four_ranks")
def test_a_rank_without_rows_has_nothing_to_cut():
    with pytest.raises(
        RuntimeError, match=r"args\[0\] has no rows to cut .* on some ranks: .*\[2, 2, 1, 0\]; pass at least"
    ):
        split_args_kwargs_into_chunks((ragged(2, 5, Shard(0)),), {}, 2)


@pytest.mark.usefixtures("six_ranks")
def test_shards_that_would_make_no_dtensor_are_an_error():
    mesh = init_device_mesh("cpu", (2, 3))
    with pytest.raises(
        ValueError, match=r"args\[0\]: its 19 rows .* of \[4, 4, 2, 3, 3, 3\]; chunk 0 of 2 .* multiple of 12"
    ):
        split_args_kwargs_into_chunks((ragged(4, 19, Shard(0), Shard(0), mesh=mesh),), {}, 2)
