"""What a search has to show over many random times and limits."""

import pytest

from tests.benchmarks import search
from tests.benchmarks.search import Outcome, Vector, mean_closed, measure, report, vectors

VECTOR = Vector(4, 8, (1.0, 1.0, 1.0), 4.0)


def test_vectors_are_the_same_again_and_can_be_met():
    first = list(vectors(5, seed=3))
    assert first == list(vectors(5, seed=3)) != list(vectors(5, seed=4))
    for vector in first:
        needs = [need for _, _, need in search.named(vector.ranks, vector.microbatches, vector.times)]
        assert min(needs) <= vector.limit <= max(needs) == vector.microbatches


def test_the_gap_is_between_named_and_bound():
    outcome = Outcome(VECTOR, named=14.0, name="1f1b", found=11.0, bound=10.0, bound_with_limit=11.0, seconds=1.0)
    assert (outcome.closed(10.0), outcome.closed(11.0), outcome.closed(14.0)) == (0.75, 1.0, None)
    there = Outcome(VECTOR, 10.0, "zbv", 10.0, 10.0, 10.0, 1.0)
    assert mean_closed([outcome, there], with_limit=False) == 0.75
    text = report([outcome, there])
    assert "2 vectors, 1 with a gap" in text
    assert "worst ratio to the best named schedule that fits: 1.000000" in text
    assert "mean gap closed: 0.750 to the bound, 1.000 with the limit" in text


def test_some_vectors(capsys):
    search.main(search.parse("--vectors 2 --tries 40 --seed 1 --each".split()))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 6 and "2 vectors" in lines[2]


@pytest.mark.full
def test_over_200_vectors_it_is_never_worse_and_closes_a_third_of_the_gap():
    outcomes = [measure(vector, tries=2000) for vector in vectors(200, seed=0)]
    assert max(outcome.ratio for outcome in outcomes) <= 1 + search.CLOSE
    assert mean_closed(outcomes, with_limit=False) >= 1 / 3
