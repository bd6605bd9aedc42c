"""Starting ranks, and how they end: results, errors, signals, time limits, Ctrl-C."""

import logging
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from funpipe._errors import TransportError
from funpipe.runtime import launch


def place(offset):
    return int(os.environ["RANK"]) + offset, torch.tensor([int(os.environ["WORLD_SIZE"])]), torch.get_num_threads()


def one_raises():
    if os.environ["RANK"] == "1":
        raise KeyError("no such leaf")
    time.sleep(60)


def never_ends():
    time.sleep(60)


def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_by_rank_and_the_cores_are_divided(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    results = launch(place, 2, 10)
    assert [(rank, world.item(), threads) for rank, world, threads in results] == [(10, 2, 1), (11, 2, 1)]
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    assert logging.getLogger("torch.distributed.elastic.multiprocessing.api").level < logging.CRITICAL


def test_an_error_of_one_rank_ends_the_others_and_keeps_its_traceback(capfd):
    began = time.monotonic()
    with pytest.raises(TransportError, match="rank 1 of 2 failed in .*one_raises") as caught:
        launch(one_raises, 2)
    assert time.monotonic() - began < 30
    assert 'raise KeyError("no such leaf")' in str(caught.value)
    assert str(caught.value).endswith("The other ranks were ended; fix this error")
    assert "Traceback" not in capfd.readouterr().err


def test_a_time_limit_shows_where_each_rank_was():
    with pytest.raises(
        TransportError, match=r"(?s)did not end within 0.5 s.*rank \d was here.*in never_ends.*timeout="
    ):
        launch(never_ends, 1, timeout=0.5)


def test_a_killed_rank_is_named():
    with pytest.raises(TransportError, match="rank 0 of 1 was killed by SIGKILL in or before .*check the memory"):
        launch(is_killed, 1)


@pytest.mark.parametrize("fn", [lambda: 1, pytest.param(type("Local", (), {"__call__": len})(), id="object")])
def test_what_cannot_be_imported_is_refused(fn):
    with pytest.raises(TransportError, match="cannot be imported .*module, or use mesh=None in a notebook$"):
        launch(fn, 2)


def test_arguments_that_cannot_travel_are_refused():
    with pytest.raises(TransportError, match="an argument of .*place cannot be sent.*build the rest inside"):
        launch(place, 2, lambda: 1)


def test_no_processes_are_refused():
    with pytest.raises(TransportError, match="at least one process, not 0; pass nprocs=1 or more"):
        launch(place, 0, 1)


def test_a_function_of_a_prompt_is_refused():
    code = "from funpipe.runtime import launch\ndef fn(): pass\nlaunch(fn, 2)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "__main__.fn lives in a notebook or prompt" in run.stderr
    assert run.stderr.strip().endswith("or use mesh=None in a notebook")


SCRIPT = """
import sys, time
from funpipe.runtime import launch

def fn():
    print("started", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    print("launching", flush=True)
    try:
        launch(fn, 2)
    except KeyboardInterrupt:
        sys.exit("stopped")
"""


@pytest.mark.parametrize("line", ["launching", "started"])
def test_ctrl_c_stops_all_ranks_without_a_traceback(tmp_path, line):
    (tmp_path / "script.py").write_text(SCRIPT)
    run = subprocess.Popen(
        [sys.executable, tmp_path / "script.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert run.stdout is not None
    assert line in (text.strip() for text in run.stdout), run.communicate()[1]
    time.sleep(0.3)
    os.killpg(run.pid, signal.SIGINT)  # what a terminal does
    began = time.monotonic()
    _, err = run.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert run.returncode == 1
    assert "Traceback" not in err and err.endswith("stopped\n")
