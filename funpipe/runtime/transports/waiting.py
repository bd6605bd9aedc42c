"""How a thread waits for the other ranks of its process: until something is ready, a rank failed, or time is up."""

from collections.abc import Callable
from threading import Condition

from funpipe._errors import TransportError
from funpipe.runtime.transports import failures


class Room:
    """What the ranks of one process share: a lock with its news, and the first failure.

    Args:
        timeout: seconds that one wait may last.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.changed = Condition()
        self.failure: tuple[int, BaseException] | None = None

    def fail(self, rank: int, error: BaseException) -> None:
        """Ends every wait that is not over yet; the first failure is the one that is named."""
        with self.changed:
            self.failure = self.failure or (rank, error)
            self.changed.notify_all()

    def wait_for(self, ready: Callable[[], bool], rank: int, waiting: str, late: Callable[[], TransportError]) -> None:
        """Blocks until ready; to be called with the lock held, which it gives up while it waits."""
        self.changed.wait_for(lambda: ready() or self.failure is not None, self.timeout)
        if ready():
            return
        if self.failure is None:
            raise late()
        failed, error = self.failure
        raise failures.peer_failed(waiting, rank, failed, error) from error
