import pytest
from hypothesis import given
from torch.distributed.pipelining import schedules as theirs

from funpipe import FunpipeError
from funpipe.interop.pipelining.schedules import _validate_schedule
from tests.interop.pipelining.schedules.grids import Grid, any_grid, every_grid
from tests.interop.pipelining.schedules.made import as_theirs, rows


@every_grid
def test_every_schedule_is_one_and_has_the_ranks_that_torch_finds(name, p, m):
    grid = Grid(name, p, m)
    found = _validate_schedule(grid.rows, p, grid.num_stages, m)
    assert found == theirs._validate_schedule(as_theirs(grid.rows), p, grid.num_stages, m)
    assert found == {stage: grid.rank_of(stage) for stage in range(grid.num_stages)}


@given(any_grid)
def test_what_is_lost_is_missed(grid):
    sizes = grid.num_ranks, grid.num_stages, grid.num_microbatches
    _validate_schedule(grid.rows, *sizes)
    rank, step = next((r, s) for r, row in grid.rows.items() for s, action in reversed(list(enumerate(row))) if action)
    with pytest.raises(AssertionError):
        _validate_schedule({**grid.rows, rank: grid.rows[rank][:step]}, *sizes)


def refused(lines, p, n, m):
    with pytest.raises(AssertionError) as raised:
        _validate_schedule(rows(*lines) if not isinstance(lines, dict) else lines, p, n, m)
    assert isinstance(raised.value, FunpipeError)
    return str(raised.value)


ALIKE = [
    ((["0F0 0B0"], 2, 2, 1), "Schedule has incorrect number of ranks - expected 2, actual 1"),
    (({0: [], 2: []}, 2, 2, 1), "Schedule is missing actions for rank 1"),
    (
        (["0B0 0F0", "1F0 1B0"], 2, 2, 1),
        "Rank 0, step 0: Running Full Backward for stage 0, microbatch 0 without first",
    ),
    (
        (["0I0 0F0", "1F0 1B0"], 2, 2, 1),
        "Rank 0, step 0: Running Backward Input for stage 0, microbatch 0 without first",
    ),
    (
        (["0F0 0W0 0I0", "1F0 1B0"], 2, 2, 1),
        "Rank 0, step 1: Running Backward Weight for stage 0, microbatch 0 without",
    ),
    ((["(0F1;0B0)OVERLAP_F_B 0F0 0B1"], 1, 1, 2), "Rank 0, step 0: Running Full Backward for stage 0, microbatch 0"),
    ((["0F0 0I0", "1F0 1B0"], 2, 2, 1), "Invalid backward microbatches for stage 0: I and W must have equal counts,"),
    ((["0F0 0I0 0W0 0B0"], 1, 1, 1), "Invalid backward microbatches for stage 0: expected 1 total backwards,"),
    ((["0F0", "1F0 1B0"], 2, 2, 1), "Invalid backward microbatches for stage 0: expected 1 total backwards,"),
    ((["0F0 0B0 1F0 1B0", "1F0 1B0"], 2, 2, 1), "Rank 1, step 0: Stage 1 is assigned to both rank 1 and rank 0"),
    ((["0F0 0B0"], 1, 1, 2), "Got 1 _ComputationType.FORWARD microbatches for stage 0, expected 2"),
    ((["0F0 0B0"], 1, 2, 1), "Got 0 _ComputationType.FORWARD microbatches for stage 1, expected 1"),
    (({0: ["x"]}, 1, 1, 1), "Rank 0, step 0: Got an invalid action: x, expected instance of _Action"),
]


@pytest.mark.parametrize(("case", "text"), ALIKE)
def test_what_torch_refuses_is_refused_with_its_text(case, text):
    assert refused(*case).startswith(text)
    lines, *sizes = case
    broken = lines if isinstance(lines, dict) else rows(*lines, root=theirs)
    with pytest.raises(AssertionError) as raised:
        theirs._validate_schedule(broken, *sizes)
    assert str(raised.value).startswith(text)


def test_the_rows_are_shown_with_the_step_marked():
    text = refused(["0B0 0F0", "1F0 1B0"], 2, 2, 1)
    assert "Full pipeline schedule:\n        Rank 0 Rank 1\nStep 0: 0B0    1F0    <-- ERROR HERE\n" in text


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["5F0 5B0"], "Rank 0, step 0: 5F0: stages are 0 to 0"),
        (["0F0 0F5 0B0 0B5"], "Rank 0, step 1: 0F5: microbatches are 0 to 1"),
        (["0F 0B"], "Rank 0, step 0: 0F: microbatches are 0 to 1"),
        (["0F0 0F0 0F1 0B0 0B1"], "Rank 0, step 1: 0F0 a second time"),
        (["0F0 0F1 0B0 0I0 0W0"], "Invalid backward microbatches"),
        (["0F0 0F1 0I0 0I1 0W0 0W1 0B1"], "Invalid backward microbatches"),
    ],
)
def test_what_torch_lets_pass_or_trips_over_is_refused(lines, text):
    assert refused(lines, 1, 1, 2).startswith(text)


def test_what_communicates_and_what_is_idle_is_passed_over():
    found = rows("0UNSHARD 0F0 . 0SEND_F0 0B0 0REDUCE_GRAD", ". 1F0 1B0")
    assert _validate_schedule(found, 2, 2, 1) == {0: 0, 1: 1}
