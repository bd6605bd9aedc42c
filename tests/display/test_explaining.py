import torch

from funpipe._typing import TensorType
from funpipe.display.explaining import amount, count, crossing_table, some, stage_table, table
from funpipe.stages.summary import Crossing, StageSummary


def test_amounts_have_the_largest_unit_of_which_there_is_one():
    assert [amount(n) for n in (0, 1023, 1024, 5 * 2**30)] == ["0 B", "1023 B", "1.0 KiB", "5.0 GiB"]


def test_counts_have_three_digits():
    assert [count(n) for n in (0, 999, 1000, 124_439_808, 10**13)] == ["0", "999", "1k", "124M", "10T"]


def test_many_names_are_the_first_and_the_last():
    assert some(()) == "-"
    assert some([str(i) for i in range(9)]) == "0, 1, 2, … 8 (9)"


def test_columns_are_as_wide_as_their_widest_cell():
    assert table([("a", "b"), ("long", "c")]) == "a     b\nlong  c"


def test_the_tables_name_stages_and_lines():
    stage = StageSummary(0, ("a", "b"), 2, 1200, 4800, 10, 20, 64)
    assert stage_table([stage]).splitlines()[1].split() == ["0", "1.2k", "4.7", "KiB", "10", "20", "64", "B", "a,", "b"]
    kind = TensorType((2,), (1,), torch.float32)
    line = crossing_table([Crossing("mm", 0, (1, 3), kind, False, "a", "/x/site-packages/y/z.py:3")]).splitlines()[1]
    assert line.split() == ["mm", "float32[2]", "16", "B", "0", "->", "1,3", "(skips", "2)", "a", "y/z.py:3"]
