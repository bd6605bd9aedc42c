"""The benchmark of dropout: its command line, its report, and one short run."""

import pytest

from tests.benchmarks import dropout


def test_it_takes_all_that_can_be_told():
    assert dropout.parse([]).part == ["alone", "step"]
    given = dropout.parse("--part alone --pairs 3 --repeats 2 --width 64".split())
    assert (given.part, given.pairs, given.repeats, given.width) == (["alone"], 3, 2, 64)


def test_the_report_has_the_ratio_of_what_dropout_costs():
    times = {"ours": [0.003] * 3, "ours without": [0.002] * 3, "torch": [0.006] * 3, "torch without": [0.004] * 3}
    head, _, theirs, ratio = dropout.report("step", times).splitlines()
    assert head.startswith("step: milliseconds")
    assert " ".join(theirs.split()) == "torch with dropout 6.00 (6.00 to 6.00) without 4.00 (4.00 to 4.00)"
    assert " ".join(ratio.split()) == "ours / torch whole 0.50 (0.50 to 0.50) what dropout costs 0.50 (0.50 to 0.50)"


@pytest.mark.full
def test_it_runs():
    assert "what dropout costs" in dropout.main("--part alone --pairs 1 --repeats 1 --width 16".split())
