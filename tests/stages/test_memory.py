import pytest

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.schedules import GPipe, Interleaved1F1B, OneFOneB
from funpipe.stages import Memory


def test_a_table_says_how_many_microbatches_are_in_flight():
    assert Memory.of(GPipe().table(2, 5), 100).in_flight == (5, 5)
    assert Memory.of(OneFOneB().table(3, 5), 100) == Memory(100, (3, 2, 1), 2.0, (0, 1, 2))


def test_a_table_says_where_the_stages_are():
    memory = Memory.of(Interleaved1F1B(stages_per_rank=2).table(2, 4), 100, slots=1)
    assert memory.ranks(4) == (0, 1, 0, 1) and memory.slots == 1


def test_without_a_table_it_is_1f1b():
    assert Memory(100).stages_in_flight(3).tolist() == [3, 2, 1] and Memory(100).ranks(3) == (0, 1, 2)


def test_one_number_is_for_all_stages():
    assert Memory(100, in_flight=4).stages_in_flight(2).tolist() == [4, 4]


def test_lists_become_tuples():
    assert hash(Memory(100, [2, 1], placement=[0, 1])) == hash(Memory(100, (2, 1), placement=(0, 1)))  # pyright: ignore


@pytest.mark.parametrize("limit", [1.5, True, "1"])
def test_a_limit_of_another_type(limit):
    with pytest.raises(FunpipeTypeError, match=r"a memory limit is .*; pass the number of bytes as an int\."):
        Memory(limit)


def test_a_negative_limit():
    with pytest.raises(StageError, match=r"-1 bytes with 2\.0 slots; pass numbers of at least 0\."):
        Memory(-1)


def test_another_number_of_stages():
    with pytest.raises(StageError, match=r"in_flight is \(2, 1\), but there are 3 stages: pass one number .* or 3"):
        Memory(100, (2, 1)).stages_in_flight(3)
    with pytest.raises(StageError, match=r"placement \(0, 1\) has 2 stages, .* cut into 3: give the rank of each of"):
        Memory(100, placement=(0, 1)).ranks(3)
