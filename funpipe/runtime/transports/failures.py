"""The texts of what can go wrong between ranks, the same for every transport."""

import re

from funpipe._errors import TransportError
from funpipe.backends.transport import Message

COMPARE = "compare what the two ranks do with programs[rank].as_text(), or allow more time with timeout="


def late(message: Message, rank: int, timeout: float) -> TransportError:
    """The peer did not come in time."""
    peer, did, call = message.src, "sent it", "wait_recv"
    if rank == message.src:
        peer, did, call = message.dst, "posted its receive", "wait_send"
    return TransportError(
        f"{_what(message, rank)}: rank {peer} has not {did} within {timeout:g} s, so {call} {message.id} cannot end; "
        f"{COMPARE}"
    )


def broken(message: Message, rank: int, error: BaseException) -> TransportError:
    """The backend gave an error, mostly because the peer's process ended."""
    peer = message.dst if rank == message.src else message.src
    return TransportError(
        f"{_what(message, rank)}: the connection to rank {peer} failed ({one_line(error)}); "
        f"look for the first error of rank {peer}, it ended or broke off before this one"
    )


def peer_failed(waiting: str, rank: int, failed: int, error: BaseException) -> TransportError:
    """Another rank of this process said that it failed."""
    return TransportError(
        f"rank {rank} stopped waiting for {waiting} because rank {failed} failed with "
        f"{type(error).__name__}: {one_line(error)}; fix that error, it is the cause of this one"
    )


def collective_failed(what: str, rank: int, group: str, ranks: list[int], error: BaseException) -> TransportError:
    """A collective gave an error: some rank of the group ended, or called another collective."""
    return TransportError(
        f"rank {rank}: {what} over {group!r} (global ranks {ranks}) failed ({one_line(error)}); "
        "look for the first error among these ranks, one of them ended or is in another collective"
    )


def unfinished(error: BaseException) -> TransportError:
    """The transport cannot be used, because an earlier step did not finish."""
    return TransportError(
        f"an earlier step on this mesh did not finish ({type(error).__name__}: {one_line(error)}), and some of its "
        "messages may still be under way: start the processes again, and go on from a checkpoint"
    )


def _what(message: Message, rank: int) -> str:
    verb = "sending" if rank == message.src else "receiving"
    ends = f"rank {message.src} to rank {message.dst}"
    return f"rank {rank} {verb} {message.label!r} (message {message.id}, {ends}{_cells(message)})"


def _cells(message: Message) -> str:
    """Where the schedule's grid has the two ends; a message at the end of a step is in no cell."""
    pairs = (("from", message.made_by), ("for", message.needed_by))
    known = " ".join(f"{word} {task}" for word, task in pairs if task)
    return f", in the schedule {known}" if known else ""


def one_line(error: BaseException) -> str:
    """The error's text without the backend's line breaks and its own source file."""
    return re.sub(r"^\[\S+:\d+\] ", "", " ".join(str(error).split())) or type(error).__name__
