"""The figures of tables."""

import pytest

from funpipe.schedules import get
from funpipe.schedules.registry import SCHEDULES
from tests.benchmarks import tables
from tests.benchmarks.tables import Case, Figures


def test_each_part_is_timed_as_often_as_asked():
    figures = tables.measure(Case("1f1b", 4, 8), repeats=3)
    assert figures.tasks == 4 * 8 * 2
    assert {name: len(times) for name, times in figures.seconds.items()} == {"make": 3, "check": 3, "simulate": 3}
    assert all(time > 0 for times in figures.seconds.values() for time in times)
    assert 10 * 2**20 < figures.peak < 64 * 2**30


def test_a_line_has_the_sum_of_the_parts():
    figures = Figures(tasks=7, seconds={"make": [1.0], "check": [2.0], "simulate": [4.0]}, peak=2**31)
    assert tables.line(Case("zbv", 2, 3), figures) == (
        "zbv, 2 ranks, 3 microbatches: make 1.000 (1.000 to 1.000), check 2.000 (2.000 to 2.000), "
        "simulate 4.000 (4.000 to 4.000), together 7.000 (7.000 to 7.000) s; 7 tasks, peak 2.00 GiB"
    )


def test_torch_is_given_the_same_tasks():
    table = get("1f1b")().table(2, 4)
    assert tables.ours(table) > 0
    assert tables.torchs(table) > 0
    assert "funpipe / torch" in tables.beside_torch(Case("1f1b", 2, 4), repeats=2)


def test_each_schedule_is_measured_once():
    names = tables.each_once()
    assert len(names) == len(set(SCHEDULES.values())) == len({SCHEDULES[name] for name in names})


@pytest.mark.parametrize("words", [[], ["zbv", "--ranks", "8", "--repeats", "2"]])
def test_its_command_line(words):
    run = tables.parse(words)
    assert (run.names, run.ranks, run.repeats) == ((["zbv"], 8, 2) if words else ([], 64, 5))
