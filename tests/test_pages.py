"""The pages of the docs are run: the Python blocks of each, one after the other."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = (
    "models.md",
    "parameters.md",
    "precision.md",
    "randomness.md",
    "shapes.md",
    "values.md",
    "transforms.md",
)


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_in_order(page):
    names: dict = {}
    blocks = [found["code"] for found in BLOCK.finditer((DOCS / page).read_text())]
    assert blocks
    for code in blocks:
        exec(compile(code, page, "exec"), names)
