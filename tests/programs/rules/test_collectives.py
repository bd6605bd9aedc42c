from funpipe import optim
from funpipe._typing import MeshShape
from funpipe.programs import verify
from funpipe.programs.instructions import AllReduce
from tests.programs.edits import at, error_of, find, insert, remove
from tests.programs.models import programs_of, weighted

OPTIMIZER = optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(0.1))
GOOD = programs_of(weighted, 2, 2, mesh=MeshShape(2, 2), optimizer=OPTIMIZER)


def test_good_programs_pass():
    assert verify(GOOD)


def test_a_collective_that_one_rank_leaves_out():
    lines = error_of(remove(GOOD, find(GOOD, AllReduce, rank=1, group="pp")))
    assert lines[0].endswith("no further all_reduce over 'pp', where rank 0 has an all_reduce of float32[8].")
    assert lines[-1] == "Give all ranks of 'pp' the same collectives in the same order."


def test_a_collective_that_only_one_rank_has():
    place = find(GOOD, AllReduce, rank=1, group="world")
    lines = error_of(insert(GOOD, place, at(GOOD, place)))
    assert "an all_reduce of float64[] over 'world', where rank 0 has no further all_reduce." in lines[0]


def test_values_of_different_types():
    place = find(GOOD, AllReduce, rank=1, group="world")
    lines = error_of(insert(remove(GOOD, place), place, AllReduce("grad.s1_float32", "world")))
    assert "where rank 0 has an all_reduce of float64[]" in lines[0]
