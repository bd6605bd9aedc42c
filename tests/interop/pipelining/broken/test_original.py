"""What is kept of torch.distributed.pipelining: that it is complete, that it is wrong, and that it is still so."""

import pytest

import funpipe as fp
from tests.interop.pipelining.broken import front_end, original, schedules, several_ranks, stages
from tests.interop.pipelining.broken.cases import Case, cases_in

FOUND = {
    original.name_of(group, case): case
    for group in (front_end, schedules, stages, several_ranks)
    for case in cases_in(group).values()
}


def test_every_case_was_measured():
    assert original.known().keys() == FOUND.keys()


@pytest.mark.parametrize(("name", "case"), FOUND.items(), ids=FOUND)
def test_the_original_does_not_do_what_is_asked_here(name: str, case: Case):
    assert not all(map(case.is_right, original.known()[name]))


@pytest.mark.full
@pytest.mark.skipif(original.version() != original.version_of_torch(), reason="measured with another torch")
def test_the_original_still_does_what_was_measured():
    found = fp.launch(original.in_one_process, 1)[0] | original.on_several_ranks()
    kinds = {name: list(map(original.kind, outcomes)) for name, outcomes in found.items()}
    assert kinds == {name: list(map(original.kind, outcomes)) for name, outcomes in original.known().items()}
