"""The report of plans beside what they take; the numbers are measured elsewhere."""

import pytest

import funpipe as fp
from tests.benchmarks.machine import Machine
from tests.benchmarks.pairs import Spread
from tests.benchmarks.planned import Line, parse, report


def line(predicted, measured):
    return Line("a plan", predicted, Spread(measured, measured, measured))


def test_the_report_names_the_largest_error_and_the_first_plans_place():
    text = report([line(0.9, 1.0), line(1.1, 0.8), line(1.2, 1.2)])
    assert "0.90  0.90  a plan" in text[1]
    assert text[-2] == "largest error of a prediction: 37.5 %"
    assert text[-1] == "the first plan is 25.0 % slower than the fastest that was run"


def test_rows_are_the_cases_and_twice_as_many():
    assert parse(["--case", "mlp"]).rows == (32, 64)
    assert parse(["--rows", "2"]).rows == (2,)


def test_what_was_measured_becomes_a_cluster():
    machine = Machine(fp.planning.Link(1e9, 1e-5), fp.planning.Link(1e8, 1e-4), 1e10, 1e-3)
    cluster = machine.cluster(2)
    assert cluster.wiring.of((0, 1)) == machine.message
    assert cluster.wiring.ring((0, 1)) == machine.reduction
    assert (cluster.traffic, cluster.overhead) == (1e10, 1e-3)


def test_an_unknown_case_is_an_error():
    with pytest.raises(SystemExit):
        parse(["--case", "huge"])
