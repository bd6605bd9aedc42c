"""The transports that compiled code can reach.

A compiled function carries only tensors and numbers, so it names its transport by the integer that `install` returned.
"""

from dataclasses import dataclass
from itertools import count

from funpipe._errors import TransportError
from funpipe.backends.transport import Transport
from funpipe.programs.message import Message


@dataclass(frozen=True)
class Endpoint:
    """A rank's transport and the messages of the plan that it carries, by id."""

    transport: Transport
    messages: tuple[Message, ...]


_installed: dict[int, Endpoint] = {}
_handles = count(1)


def new_handle() -> int:
    """A number that no transport is installed under; never used twice in a process.

    Example:
        >>> new_handle() < new_handle()
        True
    """
    return next(_handles)


def install(handle: int, endpoint: Endpoint) -> None:
    """Makes a transport reachable from compiled code.

    Args:
        handle: of `new_handle`.
        endpoint: this rank's end.
    """
    _installed[handle] = endpoint


def endpoint(handle: int) -> Endpoint:
    """Finds what is installed under a handle.

    Args:
        handle: what the compiled code carries.

    Returns:
        The transport and its messages.

    Raises:
        TransportError: nothing is installed under this handle.
    """
    try:
        return _installed[handle]
    except KeyError:
        raise TransportError(
            f"no transport is installed under handle {handle}: call the step only in the process that compiled it, "
            "while its mesh is open."
        ) from None


def uninstall(handle: int) -> None:
    """Forgets a transport.

    Args:
        handle: what it was installed under.
    """
    _installed.pop(handle, None)
