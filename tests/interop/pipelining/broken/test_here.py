"""Every case on the layer here: in one process, and all that need several ranks in one launch."""

import pytest

import funpipe as fp
from tests.interop.pipelining.broken import front_end, schedules, several_ranks, stages
from tests.interop.pipelining.broken.cases import OURS, Case, Interface, cases_in

HERE = Interface(OURS, {"backend": "interpret"})
ONE_PROCESS = {name: case for group in (front_end, schedules, stages) for name, case in cases_in(group).items()}
SEVERAL = cases_in(several_ranks)


@pytest.mark.parametrize("case", ONE_PROCESS.values(), ids=ONE_PROCESS)
def test_it_works_in_one_process(case: Case):
    outcome = case.outcome(HERE)
    assert case.is_right(outcome), outcome


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, str]]:
    """What every rank gave; the failures come last, since ranks may not be able to go on after one."""
    return fp.launch(several_ranks.run, several_ranks.RANKS, OURS, dict(HERE.options), list(SEVERAL), timeout=120)


@pytest.mark.parametrize("case", SEVERAL.values(), ids=SEVERAL)
def test_it_works_on_several_ranks(case: Case, ranks: list[dict[str, str]]):
    assert [outcomes[case.name] for outcomes in ranks if not case.is_right(outcomes[case.name])] == []
