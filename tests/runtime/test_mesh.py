"""A mesh of one process; meshes of more are in test_distributed.py."""

import subprocess
import sys
from pathlib import Path

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


def test_an_unknown_way_between_ranks_of_one_host_is_refused():
    with pytest.raises(MeshError, match="same_host is 'tcp'; use one of 'shared memory', 'network'"):
        mesh(pp=1, same_host="tcp")
    assert not dist.is_initialized()


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


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are read from /proc: Linux only")
def test_no_thread_of_gloo_outlives_the_mesh():
    """One that still held a tensor once aborted the process as it ended, now and then and under load."""
    code = """
import atexit, os, pathlib, torch
names = lambda: {(p / "comm").read_text().strip() for p in pathlib.Path("/proc/self/task").iterdir()}
atexit.register(lambda: print(sorted(n for n in names() if "runloop" in n)))
from funpipe.runtime import Distributed, mesh
transport = Distributed(mesh(pp=1, device="cpu"))
transport.all_reduce(torch.ones(2), "world")
print("pt_gloo_runloop" in names())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-2:] == ["True", "[]"]


def test_a_process_without_a_gpu_of_its_own_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(
        MeshError, match="needs GPU 1, but the machine has 1; start at most one .* or pass device='cpu'"
    ):
        mesh(pp=1, device="cuda")
