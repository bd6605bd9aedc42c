"""The page on funpipe.interop.spmd is run: its blocks in order, its script on two processes."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "spmd.md"
TITLE = r"(?: title=\"(?P<title>.*?)\")?"
BLOCK = re.compile(rf"^```(?P<kind>python|text){TITLE}\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [found.groupdict() for found in BLOCK.finditer(PAGE.read_text())]
TITLED = {block["title"]: block["code"] for block in BLOCKS if block["title"]}


def test_the_blocks_run_in_order_and_print_what_the_page_shows():
    names: dict = {}
    out = io.StringIO()
    for block in BLOCKS:
        if block["kind"] == "python" and block["title"] is None:
            with contextlib.redirect_stdout(out):
                exec(compile(block["code"], PAGE, "exec"), names)
    assert out.getvalue() == "".join(block["code"] for block in BLOCKS if block["kind"] == "text") != ""


def test_the_transformation_can_be_imported():
    names: dict = {}
    exec(compile(TITLED["transformation.py"], PAGE, "exec"), names)
    assert callable(names["train_step"])


@pytest.mark.full
def test_the_script_trains_on_two_processes(tmp_path):
    (tmp_path / "train_spmd.py").write_text(TITLED["train_spmd.py"])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, tmp_path / "train_spmd.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    losses = eval(done.stdout)
    assert len(losses) == 2 and max(losses) < 0.2
