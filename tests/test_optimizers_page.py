"""The page on optimizers is run: its blocks in order."""

import contextlib
import io
import re
from pathlib import Path

import pytest

import funpipe as fp

PAGE = Path(__file__).resolve().parent.parent / "docs" / "optimizers.md"
BLOCK = re.compile(r"^```(?P<kind>python|text)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [found.groupdict() for found in BLOCK.finditer(PAGE.read_text())]


@pytest.fixture(scope="module")
def printed():
    """What each block that shows its output printed, and what the page shows."""
    names: dict = {}
    found = []
    for block, behind in zip(BLOCKS, [*BLOCKS[1:], {"kind": ""}], strict=True):
        if block["kind"] == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(block["code"], PAGE, "exec"), names)
            found += [(out.getvalue(), behind["code"])] if behind["kind"] == "text" else []
    return found


def test_the_blocks_print_what_the_page_shows(printed):
    assert len(printed) == sum(block["kind"] == "text" for block in BLOCKS) == 3
    for found, shown in printed:
        assert found == shown


def test_every_optimizer_is_in_the_table():
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", PAGE.read_text(), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"\w+", row)}
    made = {
        n for n, f in vars(fp.optim).items() if getattr(f, "__annotations__", {}).get("return") is fp.optim.Optimizer
    }
    assert listed == made - {"accumulate", "chain", "ema", "groups", "multi_transform"}
