"""Libraries that a compiler did not finish: a process killed while it links leaves a file that nobody can load."""

import re
from pathlib import Path

_PATH = re.compile(r"(?P<path>/[^:]+\.so): ")
"""How the loader's message begins, or goes on after a name."""


def remove_broken(error: BaseException | None) -> Path | None:
    """Removes the library that could not be loaded, so that the compiler makes it again.

    Args:
        error: why compiled code did not run; the compiler's own error holds that of the loader.

    Returns:
        The library, if there was one: an error of anything else removes nothing.

    Example:
        >>> remove_broken(ValueError("no library's")) is None
        True
    """
    error = getattr(error, "inner_exception", error)
    found = _PATH.search(str(error)) if isinstance(error, ImportError | OSError) else None
    if found is None or not (library := Path(found["path"])).is_file():
        return None
    library.unlink(missing_ok=True)  # another rank may have been faster
    return library
