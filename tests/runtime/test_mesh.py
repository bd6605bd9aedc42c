"""A mesh of one process; meshes of more are in test_distributed.py."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from funpipe._errors import MeshError
from funpipe.runtime import mesh


def test_more_ranks_than_processes_is_an_error_with_a_line_to_paste():
    with pytest.raises(MeshError, match=r"mesh\(pp=2, dp=3\) needs pp \* dp = 6 processes, but there is 1; .*node 6 "):
        mesh(pp=2, dp=3)
    assert not dist.is_initialized()


@pytest.mark.parametrize("sizes", [{"pp": 0}, {"pp": 1, "dp": -1}])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(MeshError, match="at least 1, not pp=.*pass positive numbers"):
        mesh(**sizes)


def test_only_the_mesh_that_started_the_process_group_ends_it():
    first = mesh(pp=1, device="cpu")
    second = mesh(pp=1, device="cpu")
    second.close()
    assert dist.is_initialized()
    first.close()
    assert not dist.is_initialized()
    first.close()


def test_a_process_that_forgets_to_close_ends_silently():
    code = "from funpipe.runtime import mesh; m = mesh(pp=1, device='cpu'); print(m.shape)"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.endswith("MeshShape(pp=1, dp=1)\n")
    assert "Warning" not in run.stderr and "Traceback" not in run.stderr


def test_a_process_without_a_gpu_of_its_own_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(
        MeshError, match="needs GPU 1, but the machine has 1; start at most one .* or pass device='cpu'"
    ):
        mesh(pp=1, device="cuda")
