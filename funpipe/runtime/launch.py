"""Starting a function on several processes of this machine, on torch's elastic launcher."""

import faulthandler
import json
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from funpipe._errors import TransportError
from funpipe.runtime import surroundings

R = TypeVar("R")


def launch(fn: Callable[..., R], nprocs: int, *args: object, timeout: float | None = None) -> list[R]:
    """Runs `fn(*args)` in `nprocs` new processes, with the environment that torchrun would give them.

    The function calls `mesh` itself. It, its arguments and its result are pickled. OMP_NUM_THREADS is set to the cores
    divided by `nprocs` unless it is set already. When a rank fails the others are ended.

    Args:
        fn: a function that can be imported: defined at the top level of a module, or of a script that guards its call
            of `launch` with `if __name__ == "__main__":`.
        nprocs: number of processes, at least 1.
        *args: passed to every process.
        timeout: seconds that `fn` may run; None: no limit.

    Returns:
        The results by rank.

    Raises:
        TransportError: `fn` cannot be imported by another process, or a rank failed, was killed or took too long; the
            text holds the traceback of the rank that failed first.
        KeyboardInterrupt: Ctrl-C; all ranks have ended.

    Example:
        >>> import math
        >>> launch(math.sqrt, 1, 9.0)
        [3.0]
    """
    if nprocs < 1:
        raise TransportError(f"launch needs at least one process, not {nprocs}; pass nprocs=1 or more")
    payload = _pickled(fn, args)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="funpipe-launch-")))
        stack.enter_context(surroundings.of_ranks(nprocs))
        try:
            results = elastic_launch(_config(nprocs, folder), _rank)(payload, str(folder), timeout)
        except ChildFailedError as error:
            raise _failure(error, folder, _name(fn), nprocs, timeout) from None
    return [pickle.loads(results[rank]) for rank in range(nprocs)]


def _rank(payload: bytes, folder: str, timeout: float | None) -> bytes:
    """What each process runs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    fn, args = pickle.loads(payload)
    with ExitStack() as stack:
        if timeout is not None:
            stacks = stack.enter_context(open(Path(folder) / f"stacks-{os.environ['RANK']}", "w"))
            faulthandler.dump_traceback_later(timeout, exit=True, file=stacks)
            stack.callback(faulthandler.cancel_dump_traceback_later)
        result = pickle.dumps(fn(*args))
    if dist.is_initialized():
        dist.destroy_process_group()
    return result


def _config(nprocs: int, folder: Path) -> LaunchConfig:
    """One node, a free port, no restarts; SIGINT stays Python's."""
    ends: dict[str, Any] = {}
    if "shutdown_timeout" in {field.name for field in fields(LaunchConfig)}:  # torch 2.11 has a time of its own
        ends["shutdown_timeout"] = surroundings.STOP_SECONDS
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=nprocs,
        run_id="funpipe",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
        signals_to_handle="SIGTERM,SIGHUP,SIGQUIT",
        **ends,
    )


def _name(fn: Callable[..., object]) -> str:
    """The function as a person would write it."""
    return f"{getattr(fn, '__module__', '?')}.{getattr(fn, '__qualname__', repr(fn))}"


def _pickled(fn: Callable[..., object], args: tuple[object, ...]) -> bytes:
    """The call as bytes; an error where another process could not import the function."""
    remedy = "put the function at the top level of a module, or use mesh=None in a notebook"
    if getattr(fn, "__module__", None) == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
        raise TransportError(
            f"{_name(fn)} lives in a notebook or prompt, which other processes cannot import; {remedy}"
        )
    try:
        pickle.dumps(fn)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TransportError(f"{_name(fn)} cannot be imported by other processes ({error}); {remedy}") from None
    try:
        return pickle.dumps((fn, args))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TransportError(
            f"an argument of {_name(fn)} cannot be sent to other processes ({error}); "
            "pass plain data and tensors, and build the rest inside the function"
        ) from None


def _failure(error: ChildFailedError, folder: Path, name: str, nprocs: int, timeout: float | None) -> BaseException:
    """The cause: what a signal or the time limit ended, or the Python error that was first."""
    rank, failure = error.get_first_failure()
    if failure.exitcode == -signal.SIGINT:
        return KeyboardInterrupt()
    if stuck := _stuck(folder):
        return TransportError(f"{name} did not end within {timeout} s.\n{stuck}find the wait above, or raise timeout=")
    if failure.exitcode >= 0 and (raised := _raised(folder)):
        first, text = raised
        return TransportError(
            f"rank {first} of {nprocs} failed in {name}:\n\n{text}\nThe other ranks were ended; fix this error"
        )
    how = f"killed by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with exit code {failure.exitcode}"
    return TransportError(
        f"rank {rank} of {nprocs} was {how} in or before {name}, without a Python error to show; see its own output, "
        'guard the call of launch in a script with if __name__ == "__main__":, and check the memory'
    )


def _stuck(folder: Path) -> str:
    """Where the ranks were when their time was over; empty if it was not."""
    stacks = ((path.name.removeprefix("stacks-"), path.read_text()) for path in sorted(folder.glob("stacks-*")))
    return "".join(f"rank {rank} was here:\n{text}\n" for rank, text in stacks if text)


def _raised(folder: Path) -> tuple[str, str] | None:
    """The rank and traceback of the earliest error; elastic alone reports the lowest rank of those it finds dead."""
    reports = sorted(folder.rglob("error.json"), key=lambda path: path.stat().st_mtime_ns)
    if not reports:
        return None
    message = json.loads(reports[0].read_text())["message"]
    return reports[0].parent.name, message["extraInfo"]["py_callstack"]
