"""Memory that a step frees stays with the process, for the next step.

The C library gives memory at the top of its heap back to the system as soon as it is free, which is where a step's
gradients lie when it ends; the next step gets it back page by page. That took a fifth of a step whose gradients have 25
megabytes. Allocators of GPUs keep what is freed, too.
"""

import ctypes
import os
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`: free bytes at the top that are given back, and sizes that get pages of their own."""

_LARGEST = 32 << 20
"""What glibc takes at most for the second; larger tensors are mapped and given back as before."""


def keep_freed_memory() -> bool:
    """Has the C library keep freed memory, up to two gigabytes at the top of its heap; for the whole process.

    Returns:
        Whether it does: not where it is another library than glibc, nor where the user has decided, by the environment
        variables MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_ or GLIBC_TUNABLES.

    Example:
        >>> keep_freed_memory() == keep_freed_memory()
        True
    """
    decided = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in decided):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
