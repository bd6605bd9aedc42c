"""A wait that has a thread of its own, and wakes the one that sleeps beside sockets when it is over."""

import socket
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread


class Bell:
    """A socket to sleep beside, and who rings."""

    def __init__(self) -> None:
        self.rope, self.heard = socket.socketpair()
        self.heard.setblocking(False)

    def fileno(self) -> int:
        """What is readable once it has rung."""
        return self.heard.fileno()

    def ring(self) -> None:
        """Wakes one that sleeps."""
        with suppress(OSError):  # closed meanwhile: nobody sleeps
            self.rope.send(b"!")

    def hear(self) -> None:
        """Forgets that it has rung."""
        with suppress(BlockingIOError):  # another thread was faster
            self.heard.recv(64)

    def close(self) -> None:
        """Ends both sides."""
        self.rope.close()
        self.heard.close()


def begin(wait: Callable[[], None], bell: Bell) -> "Future[None]":
    """Starts a wait, which ends with the process.

    Args:
        wait: blocks, with a time limit of its own.
        bell: rung when it is over.

    Returns:
        Its end, or its error.
    """
    over: Future[None] = Future()
    Thread(target=_wait, args=(wait, over, bell), daemon=True).start()
    return over


def _wait(wait: Callable[[], None], over: "Future[None]", bell: Bell) -> None:
    try:
        wait()
    except BaseException as error:  # for the thread that looks
        over.set_exception(error)
    else:
        over.set_result(None)
    bell.ring()
