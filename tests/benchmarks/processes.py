"""Measurements that need processes of their own: fresh ones, with fresh or kept folders for compilers' caches."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


def run(module: str, words: Sequence[str], ranks: int, caches: Path) -> list[dict[str, Any]]:
    """Runs a module in `ranks` new processes that are connected to each other.

    Args:
        module: its dotted name; it prints a JSON object as its last line.
        words: its command line.
        ranks: number of processes.
        caches: the folder below which compilers keep what they made.

    Returns:
        What each rank printed.

    Raises:
        RuntimeError: a process failed.
    """
    command = [sys.executable, "-m", module, *words]
    port = _free_port()
    started = [_start(command, environment(caches, rank, ranks, port)) for rank in range(ranks)]
    try:
        return [_result(process) for process in started]
    finally:
        for process in started:
            process.kill()


def environment(caches: Path, rank: int, ranks: int, port: int) -> dict[str, str]:
    """This process's environment with one thread, other caches, and a place among the ranks if there are several."""
    made = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "XDG_CACHE_HOME": str(caches / "xdg"),
    }
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return made | {name: str(value) for name, value in place.items()} if ranks > 1 else made


def _start(command: list[str], env: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _result(process: "subprocess.Popen[str]") -> dict[str, Any]:
    out, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{process.args} ended with code {process.returncode}; its output was\n{out}\n{err}")
    return json.loads(out.splitlines()[-1])


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
