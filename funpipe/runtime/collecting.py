"""Planning and compiling without the garbage collector: they make much that lives, and little that dies."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collecting() -> Iterator[None]:
    """While open, cycles are not searched for: a search walks every object there is, and finds next to none here.

    Example:
        >>> with no_collecting():
        ...     gc.isenabled()
        False
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
