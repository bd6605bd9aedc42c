"""The page on planning is run: its blocks one after the other."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "planning.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_blocks_run_and_print_what_the_page_shows(capsys):
    names: dict = {}
    for block in BLOCKS:
        exec(compile(block, PAGE, "exec"), names)
    printed = capsys.readouterr().out
    shown, found = (
        re.findall(r"^(\d)  (\d+) ms .*  (\w+)  +\d+ of ", text, re.M) for text in (PAGE.read_text(), printed)
    )
    assert len(shown) == 4
    for (rank, time, schedule), (place, real, best) in zip(shown, found, strict=False):
        assert (rank, schedule) == (place, best)
        assert int(time) == pytest.approx(int(real), rel=0.02)
    assert "nothing fits, because" in printed
    assert names["step"].setup.num_microbatches == names["best"].candidate.num_microbatches
