"""A model of the shape of Llama 3 405B (arXiv 2407.21783, table 3), planned without a cluster or its memory."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

SECONDS, GIBIBYTES = 60, 8

PLAN = """
import resource, sys, time
start = time.monotonic()
import torch
torch.set_num_threads(2)
from funpipe.planning import Cluster, Link, Links, plan
from tests.planning.llama import llama
links = Links(inside=Link(450e9, 5e-6), between=Link(50e9, 1e-5), node=8)
cluster = Cluster(devices={devices}, flops=4e14, memory={memory}, links=links, bandwidth=3e12)
plans = plan(*llama(layers=5), layers=126, cluster=cluster, global_batch={batch})
print(plans)
print(time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def planned(devices, memory=80e9, batch=2048):
    """What is printed by a fresh process, and what it took: seconds and gibibytes."""
    code = PLAN.format(devices=devices, memory=memory, batch=batch)
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    *text, took = out.splitlines()
    return "\n".join(text), [float(word) for word in took.split()]


@pytest.mark.full
def test_16384_devices_of_80_gb_at_16_million_tokens():
    text, (seconds, gibibytes) = planned(16384)
    best = text.splitlines()[1].split()
    assert int(best[3]) * int(best[4]) == 16384
    assert seconds < SECONDS
    assert gibibytes < GIBIBYTES
    # 405.9 billion parameters, with gradients and AdamW's two slots in bfloat16, on 32 ranks: 101 GB on each
    assert "pp=32 dp=512: " in text
    assert "needs 101 GB on average over the ranks, for its state, of 80 GB" in text


@pytest.mark.full
def test_too_small_a_cluster_is_told_why():
    text, (seconds, _) = planned(32)
    assert text.startswith("nothing fits, because the candidate that needs the least memory, pp=32 dp=1")
    assert "needs 101 GB on average over the ranks, for its state, of 80 GB" in text
    assert seconds < SECONDS


@pytest.mark.full
def test_more_memory_makes_it_fit():
    text, _ = planned(32, memory=192e9, batch=128)
    assert text.splitlines()[1].split()[3:5] == ["32", "1"]
