"""The guide is run: its blocks one after the other, its script on two processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "guide.md"
BLOCK = re.compile(r"^```python(?: title=\"(?P<title>.*?)\")?\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(found["title"], found["code"]) for found in BLOCK.finditer(GUIDE.read_text())]


def test_the_blocks_run_in_order_and_the_model_learns():
    names: dict = {}
    for title, code in BLOCKS:
        if title is None:
            exec(compile(code, GUIDE, "exec"), names)
    assert float(names["metrics"]["loss"]) < 0.5 * float(names["first"]["loss"])
    assert names["state"].step == 30


@pytest.mark.full
def test_the_script_runs_on_two_processes(tmp_path):
    ((title, code),) = [(title, code) for title, code in BLOCKS if title]
    (tmp_path / title).write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, tmp_path / title], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    losses = eval(done.stdout)
    assert len(set(losses)) == 1 and losses[0] < 1
