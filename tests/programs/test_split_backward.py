"""Tables with split backwards, mixed ones and overlaps, in programs and under the verifier."""

import pytest

from funpipe.passes import optimize
from funpipe.programs import verify
from funpipe.programs.instructions import Accumulate, Overlap, Run, Send
from funpipe.schedules import Table, check
from tests.programs.edits import error_of, find, remove
from tests.programs.models import batch_of, chain, normalized, params_of, programs_of, skipping, stages_of, traced_of
from tests.running import run_programs

HEAD = "stage -> rank: 0 1; microbatches: 2\n"
SPLIT = Table.parse(f"{HEAD}rank 0 | 0F0 0F1 0I0 0I1 0W0 0W1\nrank 1 | 1F0 1F1 1I0 1I1 1W0 1W1")
MIXED = Table.parse(f"{HEAD}rank 0 | 0F0 0F1 0B0 0I1 0W1\nrank 1 | 1F0 1I0 1F1 1W0 1B1")
WHOLE = Table.parse(f"{HEAD}rank 0 | 0F0 0F1 0B0 0B1\nrank 1 | 1F0 1B0 1F1 1B1")
BESIDE = Table.parse(f"{HEAD}rank 0 | 0F0 0F1 0B0 0B1\nrank 1 | 1F0 1F1&1B0 1B1")


def runs(programs, rank):
    return [f"{i.region} {i.microbatch}" for i in programs.programs[rank].instructions if isinstance(i, Run)]


def test_an_empty_i_is_no_instruction():
    programs = programs_of(chain, 2, schedule=SPLIT)
    assert runs(programs, 0) == ["F0 0", "F0 1", "W0 0", "W0 1"]
    assert runs(programs, 1) == ["F1 0", "F1 1", "I1 0", "I1 1", "W1 0", "W1 1"]
    assert list(programs.regions) == ["F0", "W0", "F1", "I1", "W1"]
    verify(optimize(programs))


def test_i_sends_and_w_accumulates():
    programs = programs_of(chain, 2, schedule=SPLIT)
    kinds = [type(i) for i in programs.programs[1].instructions if isinstance(i, Send | Accumulate)]
    assert kinds == [Send, Send, Accumulate, Accumulate]
    back = next(m for m in programs.messages if m.src == 1)
    assert (back.made_by, back.needed_by) == ("1I0", "0W0")


@pytest.mark.parametrize("table", [SPLIT, MIXED, BESIDE], ids=["split", "mixed", "beside"])
@pytest.mark.parametrize("loss_fn", [chain, skipping], ids=lambda f: f.__name__)
def test_the_bits_of_whole_backwards(loss_fn, table):
    traced = traced_of(loss_fn)
    stages = stages_of(traced, 2)
    found, wanted = (run_programs(traced, stages, t, params_of(loss_fn), batch_of(2)) for t in (table, WHOLE))
    assert found.same_bits(wanted)


def test_a_w_order_that_does_not_ascend_is_the_order_of_accumulation():
    """Three terms, so that the order shows in the bits: the reference accumulates whole backwards in that order."""
    head = "stage -> rank: 0; microbatches: 3\nrank 0 | 0F0 0F1 0F2 "
    tables = [Table.parse(head + row) for row in ("0I0 0I1 0I2 0W2 0W0 0W1", "0B2 0B0 0B1", "0B0 0B1 0B2")]
    traced = traced_of(chain)
    found, same, ascending = (
        run_programs(traced, stages_of(traced, 1), t, params_of(chain), batch_of(3)) for t in tables
    )
    assert found.same_bits(same)
    assert not found.same_bits(ascending)


def test_both_ways_of_a_stage_are_regions_of_a_mixed_table():
    check(MIXED)
    programs = programs_of(chain, 2, schedule=MIXED)
    assert list(programs.regions) == ["F0", "B0", "W0", "F1", "B1", "I1", "W1"]
    verify(optimize(programs))


def test_buffers_are_those_of_the_forward():
    verify(optimize(programs_of(normalized, 2, schedule=SPLIT)))


def test_two_at_once_read_and_send_around_one_instruction():
    programs = optimize(programs_of(chain, 2, schedule=BESIDE))
    (pair,) = [i for i in programs.programs[1].instructions if isinstance(i, Overlap)]
    assert (pair.first.region, pair.first.microbatch, pair.second.region) == ("F1", 1, "B1")
    verify(programs)


def test_what_i_leaves_counts_until_w():
    early = Table.parse(f"{HEAD}rank 0 | 0F0 0F1 0B0 0B1\nrank 1 | 1F0 1F1 1I0 1W0 1I1 1W1")
    peaks = [verify(optimize(programs_of(chain, 2, schedule=t))).peak_memory[1] for t in (SPLIT, early)]
    assert peaks[0] > peaks[1]


# What the verifier says


def test_a_w_that_never_runs():
    programs = programs_of(chain, 2, schedule=SPLIT)
    place = find(programs, Run, rank=1, region="W1", microbatch=1)
    lines = error_of(remove(remove(programs, (place[0], place[1] + 1)), place))
    assert lines[0].endswith("1W1 is missing: W1 never runs for microbatch 1.")


def test_a_table_without_w_tasks():
    table = Table.parse("stage -> rank: 0; microbatches: 1\nrank 0 | 0F0 0I0")
    assert "0W0 is missing" in error_of(programs_of(chain, 1, schedule=table))[0]


def test_a_microbatch_with_a_whole_and_a_split_backward():
    table = Table.parse("stage -> rank: 0; microbatches: 1\nrank 0 | 0F0 0B0 0I0 0W0")
    assert error_of(programs_of(chain, 1, schedule=table))[0].endswith("was already made.")
