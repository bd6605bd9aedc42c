import pytest

import funpipe as fp
from tests.interop.spmd.two_ranks import MEAN, SUMMED, differences

# Fused kernels round the last elements of a row otherwise where there are fewer rows.
EXACT = [name for name in (*SUMMED, *MEAN) if not name.startswith("shard, ")]
CLOSE = [name for name in MEAN if name not in EXACT]


@pytest.fixture(scope="module")
def found():
    """What both ranks found."""
    return fp.launch(differences, 2, [*SUMMED, *MEAN], timeout=170)


@pytest.mark.parametrize("name", EXACT)
def test_parameters_are_those_of_ddp_to_the_bit(found, name):
    assert [rank[name][0] for rank in found] == [0, 0]
    assert all(rank[name][1] > 1e-4 for rank in found)


@pytest.mark.parametrize("name", CLOSE)
def test_sharded_parameters_are_those_of_ddp(found, name):
    assert all(rank[name][0] < 1e-6 for rank in found)
    assert all(rank[name][1] > 1e-4 for rank in found)


def test_one_parameter_has_one_all_reduce(found):
    assert [rank["one all-reduce"] for rank in found] == [1, 1]


def test_a_shard_is_gathered_once_and_its_gradient_scattered_once(found):
    counts = {"all_reduce": 0, "all_gather": 4, "reduce_scatter": 4}
    assert [rank["sharded collectives"] for rank in found] == [(counts, (4, 8), (4, 8), (8, 8))] * 2


def test_reading_open_state_on_several_ranks_says_to_flush(found):
    for texts, count in (rank["read while open"] for rank in found):
        assert len(texts) == 3
        assert all("call the step's flush() on all ranks before" in text for text in texts)
        assert count == 4


@pytest.mark.parametrize(
    "name",
    [
        "returned gradients",
        "replicated argument",
        "narrow shards",
        "gradients left on shards",
        "clipped shards",
        "second dimension",
    ],
)
def test_what_single_steps_compute(found, name):
    assert all(rank[name] < 1e-6 for rank in found)


def test_a_model_is_distributed_in_one_way(found):
    assert all("compile the steps of one model with one style" in rank["other style"] for rank in found)
