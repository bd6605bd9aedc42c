"""The page of the schedules shows what they are."""

import re
from pathlib import Path

import pytest

from funpipe import schedules
from funpipe.schedules.registry import SCHEDULES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "schedules.md").read_text()
PICTURES = re.findall(r"^### (\w+)\n.*?```python\n(.*?)\n```\n\n```text\n(.*?\n)```", PAGE, re.MULTILINE | re.DOTALL)


def test_every_schedule_has_its_picture_and_its_line():
    names = [cls.__name__ for cls in dict.fromkeys(SCHEDULES.values())]
    assert [name for name, _, _ in PICTURES] == names
    assert re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE) == names


@pytest.mark.parametrize(("name", "call", "picture"), PICTURES, ids=[name for name, _, _ in PICTURES])
def test_the_picture_is_the_table(name, call, picture):
    assert call.startswith(f"{name}(")
    table = eval(call, vars(schedules))
    assert "\n".join(table.as_text().splitlines()[1:-1]) + "\n" == picture
