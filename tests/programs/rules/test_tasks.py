from dataclasses import replace

import pytest

from funpipe.programs.instructions import Run
from funpipe.schedules import GPipe
from tests.programs.edits import at, change, error_of, find, insert, remove
from tests.programs.models import chain, normalized, programs_of

GOOD = programs_of(chain, 2, 2, GPipe())


def test_a_run_that_is_missing():
    plan = programs_of(normalized, 1, 2)
    first = find(plan, Run, region="B0", microbatch=1)
    lines = error_of(remove(remove(plan, first), first))
    assert lines[0].endswith("B0 never runs for microbatch 1.")
    assert lines[-1] == "Add it to rank 0."


def test_a_run_done_twice():
    place = find(GOOD, Run, rank=1, region="F1", microbatch=0)
    again = replace(at(GOOD, place), writes=())
    text = error_of(insert(GOOD, place, again))
    assert "F1 makes" in text[0]
    twice = insert(GOOD, place, at(GOOD, place))
    assert "was already made." in error_of(twice)[0]


@pytest.mark.parametrize(("stages", "what"), [((0, 1), "stage 0 is on rank 0 too."), ((), "no rank holds stage 1.")])
def test_each_stage_is_on_one_rank(stages, what):
    first, second = GOOD.programs
    idle = replace(second, stages=stages, instructions=second.instructions if stages else ())
    empty = replace(idle, outputs=idle.outputs if stages else {})
    assert what in error_of(replace(GOOD, programs=(first, empty)))[0]


def test_an_unknown_region():
    text = error_of(change(GOOD, find(GOOD, Run), region="F7"))
    assert "'F7' is no region of these programs." in text[0]
    assert text[-1] == "Run one of F0, B0, F1, B1."


def test_a_region_on_another_rank():
    first, second = GOOD.programs
    text = error_of(replace(GOOD, programs=(replace(first, stages=(1,)), replace(second, stages=(0,)))))
    assert "nothing makes 'param." in text[0]


def test_a_region_of_a_stage_that_is_elsewhere():
    text = error_of(change(GOOD, find(GOOD, Run, rank=0, region="B0"), region="B1"))
    assert "B1 belongs to stage 1, and this rank holds the stages (0,)." in text[0]
    assert text[-1] == "Run it on the rank of stage 1."


def test_a_microbatch_that_does_not_exist():
    assert "there is no microbatch 2." in error_of(change(GOOD, find(GOOD, Run), microbatch=2))[0]


def test_another_number_of_inputs():
    place = find(GOOD, Run, rank=0)
    text = error_of(change(GOOD, place, reads=at(GOOD, place).reads[:-1]))
    assert "F0 takes 3 inputs and gets 2." in text[0]
    assert text[-1] == "Pass param.b0, param.w0, batch.x."


def test_an_input_of_another_type():
    place = find(GOOD, Run, rank=0)
    bias, weight, rows = at(GOOD, place).reads
    text = error_of(change(GOOD, place, reads=(weight, bias, rows)))
    assert "F0 takes 'param.b0' as float32[6] and gets 'param.w0', float32[6,6]." in text[0]


def test_the_input_of_another_microbatch():
    place = find(GOOD, Run, rank=0, microbatch=1)
    reads = (*at(GOOD, place).reads[:2], "batch.x@0")
    text = error_of(change(GOOD, place, reads=reads))
    assert "F0 of microbatch 1 reads 'batch.x@0' where 'batch.x@1' belongs." in text[0]


@pytest.mark.parametrize(("microbatch", "wrong"), [(1, "buffer.norms.0.running_mean"), (2, None)])
def test_a_buffer_of_another_microbatch_than_the_one_before(microbatch, wrong):
    plan = programs_of(normalized, 2, 3)
    place = find(plan, Run, rank=0, region="F0", microbatch=microbatch)
    at_buffer = plan.regions["F0"].inputs.index("buffer.norms.0.running_mean")
    reads = list(at(plan, place).reads)
    reads[at_buffer] = wrong or reads[at_buffer].replace("@1", "@0")
    assert (
        f"F0 of microbatch {microbatch} reads {reads[at_buffer]!r} where"
        in error_of(change(plan, place, reads=tuple(reads)))[0]
    )


def test_other_outputs_than_the_region_makes():
    plan = programs_of(chain, 1, 1)
    place = find(plan, Run, region="F0")
    writes = at(plan, place).writes
    text = error_of(change(plan, place, writes=(*writes[1:], writes[0])))
    assert f"F0 makes {len(writes)} values" in text[0]
