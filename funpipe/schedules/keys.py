"""What depends on a task's stage and kind alone, as an array by *key*.

    key = stage * 4 + kind        kind: F 0, B 1, I 2, W 3        idle: -1

An array by key has one entry more than there are keys, 0, at which the key of an idle cell points. So one look-up gives
the number of every cell of a table.
"""

import numpy as np

from funpipe.schedules.codes import pair_of


def keys(codes: np.ndarray, num_microbatches: int) -> np.ndarray:
    """The key of each code, int32; -1 where idle."""
    found = pair_of(codes) // num_microbatches
    found *= 4
    found += codes & 3
    return found


def by_key(F: np.ndarray, B: np.ndarray, I: np.ndarray, W: np.ndarray) -> np.ndarray:
    """The array by key of numbers for each stage, shape (num_stages,) each; 0 where idle."""
    numbers = np.stack([F, B, I, W], axis=1).ravel()
    return np.append(numbers, np.zeros(1, numbers.dtype))
