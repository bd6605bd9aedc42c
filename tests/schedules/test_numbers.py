import numpy as np
import pytest

from funpipe._errors import ScheduleError
from funpipe.schedules.numbers import each


def test_one_number_is_for_all():
    assert each("F", 2, 3, "stage").tolist() == [2.0, 2.0, 2.0]
    assert each("F", np.float32(2), 0, "stage").shape == (0,)


def test_or_there_is_one_for_each():
    assert each("F", (1, 2.5), 2, "stage").tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.0, 2.0], r"F has shape \(2,\); pass one number, or 3, one for each stage\."),
        ([[1.0, 2.0, 3.0]], r"F has shape \(1, 3\)"),
        (-0.5, r"F=-0\.5; pass numbers that are finite and not negative"),
        ([1.0, float("nan"), 2.0], r"F=\[1\.0, nan, 2\.0\]; pass numbers"),
        ("fast", "F='fast'; pass one number, or 3, one for each stage"),
        ([[1.0], [1.0, 2.0]], "F=.*; pass one number"),
    ],
)
def test_anything_else_is_an_error(given, message):
    with pytest.raises(ScheduleError, match=message):
        each("F", given, 3, "stage")
