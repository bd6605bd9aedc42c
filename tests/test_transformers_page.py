"""The page on models of transformers is run: its blocks in order print what it shows."""

import contextlib
import io
import re
from pathlib import Path

import pytest

pytest.importorskip("transformers")

PAGE = Path(__file__).resolve().parent.parent / "docs" / "transformers.md"
BLOCK = re.compile(r"^```(?P<kind>python|text)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_blocks_run_in_order_and_print_what_is_shown():
    blocks = [found.groupdict() for found in BLOCK.finditer(PAGE.read_text())]
    names: dict = {}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        for block in (block for block in blocks if block["kind"] == "python"):
            exec(compile(block["code"], PAGE, "exec"), names)
    assert out.getvalue() == "".join(block["code"] for block in blocks if block["kind"] == "text")
    assert names["again"].num_parameters() == names["model"].num_parameters()
