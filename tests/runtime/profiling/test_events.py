"""Events from the parts of a program."""

import pytest

from funpipe import optim
from funpipe.passes import optimize
from funpipe.programs.instructions import PostRecv, Send, WaitRecv, WaitSend
from funpipe.programs.text import _KINDS, instruction_text
from funpipe.runtime.profiling.event import SHARES
from funpipe.runtime.profiling.events import Events, word_of
from funpipe.schedules import Table
from tests.programs.models import programs_of, tied

CLIPPED = optim.chain(optim.clip_by_global_norm(0.1), optim.adamw(1e-2))


@pytest.fixture(scope="module")
def programs():
    """Two ranks with a tied leaf and a clipped norm: every kind of communication."""
    return optimize(programs_of(tied, 2, 3, optimizer=CLIPPED))


def events_of(programs, rank, parts=None):
    program = programs.programs[rank]
    parts = parts or [(i,) for i in program.instructions]
    return Events(programs, program, rank + 4).write(parts, [float(t) for t in range(len(parts) + 3)])


@pytest.mark.parametrize("rank", [0, 1])
def test_there_is_one_for_each_part_and_one_on_either_side(programs, rank):
    before, *inner, after = events_of(programs, rank)
    assert [e.text for e in inner] == [instruction_text(i) for i in programs.programs[rank].instructions]
    assert (before.kind, after.kind) == ("before", "after")
    assert [(e.start, e.end) for e in (before, *inner, after)] == [(t, t + 1.0) for t in range(len(inner) + 2)]
    assert {e.rank for e in inner} == {rank + 4}


@pytest.mark.parametrize("rank", [0, 1])
def test_every_kind_counts_as_something(programs, rank):
    assert {e.share for e in events_of(programs, rank)} <= set(SHARES)


def test_every_instruction_counts_as_something():
    """`run` is told by the kind of its task."""
    words = set(_KINDS) - {"run"}
    assert words <= {kind for kinds in SHARES.values() for kind in kinds}


@pytest.mark.parametrize("rank", [0, 1])
def test_the_word_is_that_of_the_programs_text(programs, rank):
    for instruction in programs.programs[rank].instructions:
        assert f" {word_of(instruction)} " in f" {instruction_text(instruction)} "


def test_a_region_is_named_by_kind_stage_and_microbatch(programs):
    found = [(e.name, e.kind, e.stage, e.microbatch) for e in events_of(programs, 1) if e.kind in "FB"]
    assert found == [(f"{kind}{i}", kind, 1, i) for i in range(3) for kind in "FB"]


def test_messages_have_their_bytes_and_belong_to_who_makes_or_first_reads_them(programs):
    kinds = Send | WaitSend | PostRecv | WaitRecv
    for rank in (0, 1):
        _, *inner, _ = events_of(programs, rank)
        for event, instruction in zip(inner, programs.programs[rank].instructions, strict=True):
            if isinstance(instruction, kinds) and event.microbatch is not None:
                assert event.message == instruction.message
                assert event.nbytes == programs.messages[instruction.message].type.nbytes > 0
                assert event.stage == rank
            elif not isinstance(instruction, kinds):
                assert event.message is None


def test_a_block_with_an_update_is_an_update(programs):
    instructions = programs.programs[0].instructions
    at = next(k for k, i in enumerate(instructions) if word_of(i) == "update")
    _, first, block, last, _ = events_of(programs, 0, [(), instructions[at - 1 : at + 1], ()])
    assert (first.kind, block.kind, last.kind) == ("start", "update", "end")
    assert block.text.count("\n") == 1


def test_two_at_once_are_one_event():
    """Of two stages and two microbatches, so of none; their values belong to the stage that makes them."""
    rows = "rank 0 | 0F0 0F1 0B0 0B1\nrank 1 | 1F0 1F1&1B0 1B1"
    table = Table.parse(f"stage -> rank: 0 1; microbatches: 2\n{rows}")
    found = events_of(optimize(programs_of(tied, 2, schedule=table)), 1)
    (pair,) = [event for event in found if event.kind == "overlap"]
    assert (pair.stage, pair.microbatch, pair.share, pair.name) == (None, None, "compute", "overlap")
    assert {event.stage for event in found if event.kind == "send" and event.microbatch is not None} == {1}
