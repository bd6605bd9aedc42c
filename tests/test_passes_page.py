"""The page on passes is run: its blocks in order, its script on two processes."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import funpipe as fp

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "passes.md"
TITLE = r"(?: title=\"(?P<title>.*?)\")?"
BLOCK = re.compile(rf"^```(?P<kind>python|text){TITLE}\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [found.groupdict() for found in BLOCK.finditer(PAGE.read_text())]


@pytest.fixture(scope="module")
def page():
    """What the names of the page are in the end, and what each block that shows its output printed."""
    torch.manual_seed(0)
    names: dict = {}
    printed = []
    for block, behind in zip(BLOCKS, [*BLOCKS[1:], {"kind": ""}], strict=True):
        if block["kind"] == "python" and block["title"] is None:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(block["code"], PAGE, "exec"), names)
            printed += [(out.getvalue(), behind["code"])] if behind["kind"] == "text" else []
    return names, printed


def test_the_blocks_print_what_the_page_shows(page):
    _, printed = page
    assert len(printed) == sum(block["kind"] == "text" for block in BLOCKS) == 4
    for found, shown in printed:
        assert found == shown


def test_the_model_learns(page):
    names, _ = page
    with torch.no_grad():
        first, rotated, trained = (
            float(names["loss_fn"](names[state]["params"], names["batch"])) for state in ("first", "state", "trained")
        )
    assert trained < 0.2 * first
    assert rotated < first


def test_the_rotated_step_follows_the_law(page):
    names, _ = page
    state = names["first"]
    for _ in range(3):
        state, _ = fp.compile_step(names["alone"], backend="interpret")(state, names["batch"])
    init, run, flush = fp.rotate(names["alone"], fp.passes.updates(["params.4.weight"]))
    pending = init(names["first"])
    for _ in range(3):
        pending, _ = run(pending, names["batch"])
    found = flush(pending).state
    assert all(torch.equal(found["params"][n], leaf) for n, leaf in state["params"].items())


def test_every_pass_of_the_library_is_in_the_table():
    table = PAGE.read_text().partition("## The passes\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)\(", table, re.MULTILINE)
    made = [n for n, f in vars(fp.passes).items() if getattr(f, "__annotations__", {}).get("return") is fp.passes.Pass]
    assert sorted(listed) == sorted(made)


@pytest.mark.full
def test_the_script_trains_on_two_processes(tmp_path):
    (block,) = [block for block in BLOCKS if block["title"]]
    (tmp_path / block["title"]).write_text(block["code"])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, tmp_path / block["title"]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    losses = eval(done.stdout)
    assert losses[0] == losses[1] < 0.5
