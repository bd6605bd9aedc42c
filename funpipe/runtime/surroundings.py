"""What `launch` puts around torch's elastic launcher, as context managers.

What Ctrl-C does decides most of it. The terminal sends SIGINT to every process at once. The ranks are started with
SIGINT blocked, and a rank lets it end the process silently as soon as it runs our code; so no rank prints a traceback,
wherever it is, in a native wait or still importing torch. Only the parent raises KeyboardInterrupt, and ends the ranks
that are left with SIGTERM.
"""

import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import popen_spawn_posix, resource_tracker
from threading import Event, Thread, Timer, current_thread, main_thread
from types import FrameType

STOP_SECONDS = 5
"""How long a rank may take to end after SIGTERM before it is killed."""


@contextmanager
def of_ranks(nprocs: int) -> Iterator[None]:
    """Everything below, in the order in which it must be set up."""
    with threads(nprocs), quiet(), handlers(), no_orphans(), whole_starts(), ranks_without_sigint():
        yield


@contextmanager
def threads(nprocs: int) -> Iterator[None]:
    """Divides the cores between the ranks, in the environment that they inherit."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ["OMP_NUM_THREADS"] = str(max(1, cores // nprocs))
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


@contextmanager
def quiet() -> Iterator[None]:
    """Silences elastic's own logs of what is raised here anyway; each of its loggers has its own level."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.elastic")]
    loggers = [logging.getLogger(name) for name in (*names, "torch.multiprocessing.spawn")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def handlers() -> Iterator[None]:
    """Puts back the signal handlers that elastic replaces."""
    signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT) if current_thread() is main_thread() else ()
    saved = {sig: signal.getsignal(sig) for sig in signals}
    try:
        yield
    finally:
        for sig, handler in saved.items():
            signal.signal(sig, handler)


@contextmanager
def no_orphans() -> Iterator[None]:
    """Ends what an interrupt between two starts left behind."""
    before = set(multiprocessing.active_children())
    try:
        yield
    finally:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
            child.join(STOP_SECONDS)
            child.kill()


@contextmanager
def whole_starts() -> Iterator[None]:
    """Lets Ctrl-C wait while a rank is being started: one that loses its parent halfway prints a traceback."""
    before = signal.getsignal(signal.SIGINT)
    if current_thread() is not main_thread() or not callable(before):
        yield
        return

    def later(number: int, frame: FrameType | None) -> None:
        if _is_starting(frame):
            Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            before(number, frame)

    signal.signal(signal.SIGINT, later)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_starting(frame: FrameType | None) -> bool:
    """Whether a frame is part of the start of a process."""
    while frame is not None and frame.f_code.co_filename != popen_spawn_posix.__file__:
        frame = frame.f_back
    return frame is not None


@contextmanager
def ranks_without_sigint() -> Iterator[None]:
    """Blocks SIGINT in this thread, whose mask the ranks inherit, and gives it another thread to arrive in.

    Python handles a signal in the main thread whichever thread the system gave it to, so Ctrl-C still interrupts.
    multiprocessing's resource tracker is started first: starting it later would unblock SIGINT in this thread again.
    """
    resource_tracker.ensure_running()
    over = Event()
    landing = Thread(target=over.wait, daemon=True)
    landing.start()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        over.set()
        landing.join()
