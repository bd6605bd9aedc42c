"""How many compiled steps a step keeps."""

from funpipe._errors import FunpipeError


def check_max_shapes(limit: object) -> None:
    """Raises unless a limit is a number of steps to keep.

    Args:
        limit: `max_shapes` of `train_step`.

    Raises:
        FunpipeError: it is no int of at least 1.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise FunpipeError(f"max_shapes is {limit!r}; pass an int of at least 1: how many compiled steps are kept.")
