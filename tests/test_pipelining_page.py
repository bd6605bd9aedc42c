"""The page on funpipe.interop.pipelining is run: its blocks in order, its script on two processes."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "pipelining.md"
TITLE = r"(?: title=\"(?P<title>.*?)\")?"
BLOCK = re.compile(rf"^```(?P<kind>python|text){TITLE}\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [found.groupdict() for found in BLOCK.finditer(PAGE.read_text())]


def test_the_blocks_run_in_order_and_the_model_learns():
    names: dict = {}
    out = io.StringIO()
    for block in BLOCKS:
        if block["kind"] == "python" and block["title"] is None:
            with contextlib.redirect_stdout(out):
                exec(compile(block["code"], PAGE, "exec"), names)
    assert out.getvalue() == "".join(block["code"] for block in BLOCKS if block["kind"] == "text")
    assert float(torch.stack(names["losses"]).mean()) < 0.7 * float(loss_of_the_start(names))


def loss_of_the_start(names: dict) -> torch.Tensor:
    """The loss of the model as the page makes it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 4))
    loss = nn.functional.cross_entropy(model(names["x"]), names["y"])
    loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(names["gradients"][name], parameter.grad)
    return loss.detach()


@pytest.mark.full
def test_the_script_trains_on_two_processes(tmp_path):
    (block,) = [block for block in BLOCKS if block["title"]]
    (tmp_path / block["title"]).write_text(block["code"])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, tmp_path / block["title"]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    losses = eval(done.stdout)
    assert len(losses) == 4 and sum(losses) / 4 < 0.9
