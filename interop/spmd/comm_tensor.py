"""A tensor class that traced collectives before they were operators; nothing here needs it."""

from funpipe.interop.spmd.errors import SpmdAttributeError


def __getattr__(name: str) -> object:
    """Says what to use instead of the names that the original had here.

    Raises:
        SpmdAttributeError: always.
    """
    raise SpmdAttributeError(
        f"module 'funpipe.interop.spmd.comm_tensor' has no {name!r}: collectives are operators that are traced as they "
        "are, so no tensor has to be wrapped; in a pure step use fp.psum, fp.all_gather or fp.reduce_scatter."
    )
