"""The page on tracing is run: its blocks one after the other, with the lines that they have on the page."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "tracing.md"
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^```text title=\"prints\"\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_blocks_run_in_order_and_print_what_the_page_says():
    text, names = PAGE.read_text(), {}
    for block in BLOCK.finditer(text):
        before = "\n" * text[: block.start("code")].count("\n")
        exec(compile(before + block["code"], "docs/tracing.md", "exec"), names)
    assert names["step"].lowered.origin.traced.opaque == ("2",)
    (printed,) = PRINTED.finditer(text)
    assert f"{names['found']}\n" == printed["text"]
