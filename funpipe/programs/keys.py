"""The keys of all draws of a step: a matrix with a row for each microbatch and a column for each draw.

    key of a draw = fold_in(fold_in(fold_in(key, step), global microbatch), position)

A replica's microbatches are numbered on from those of the replicas before it. A region takes single keys, views of the
matrix: `random.NAME@i`, where the name is a position, or `microbatch` for the key before the last `fold_in`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from funpipe._typing import TensorType, rows
from funpipe.functional.random.keys import fold_in
from funpipe.programs.program import Programs

APART = 2
"""How many numbers a key takes: kernels of a GPU want what they read on borders of 16 bytes."""


def keys_type(count: int, names: Sequence[str], device: str) -> TensorType:
    """The type of the matrix of some draws for so many microbatches."""
    shape = (count, len(names), APART)
    return TensorType(shape, rows(shape), torch.int64, device)


def is_key(name: str) -> bool:
    """Whether a value is a key in the matrix."""
    return name.startswith("random.")


def offset_of(names: Sequence[str], value: str) -> int:
    """Where a key lies in the matrix.

    Args:
        names: of the draws, in the order of the columns.
        value: `random.NAME@i`.

    Example:
        >>> offset_of(("microbatch", "0", "1"), "random.1@2")
        16
    """
    name, _, index = value.removeprefix("random.").rpartition("@")
    return (int(index) * len(names) + names.index(name)) * APART


def key_in(keys: Tensor, names: Sequence[str], value: str) -> Tensor:
    """A key as a view of the matrix."""
    return keys.as_strided((), (), keys.storage_offset() + offset_of(names, value))


def held_keys(programs: Programs) -> dict[str, str]:
    """For each key the value that holds it: the matrix."""
    return {f"random.{n}@{i}": "keys" for n in programs.keys for i in range(programs.num_microbatches)}


def keys_of_step(key: Tensor, step: Tensor, replica: Tensor, count: int, names: Sequence[str]) -> Tensor:
    """The matrix of one step.

    Args:
        key: 0-dim int64, of the whole training.
        step: 0-dim int64, the number of updates before.
        replica: 0-dim int64, the number of this replica.
        count: how many microbatches it has.
        names: of the draws; positions, all from 0 on, stand behind `microbatch`.

    Returns:
        int64, shape `(count, len(names), APART)`.

    Example:
        >>> zero = torch.tensor(0)
        >>> matrix = keys_of_step(torch.tensor(7), zero, zero, 2, ("microbatch", "0"))
        >>> matrix[1, 1, 0] == fold_in(fold_in(fold_in(torch.tensor(7), 0), 1), 0)
        tensor(True)
    """
    first = replica.to(key.device) * count
    microbatches = fold_in(fold_in(key, step.to(key.device)), first + torch.arange(count, device=key.device))
    positions = torch.arange(sum(map(str.isdigit, names)), device=key.device)
    whole = [microbatches[:, None]] * (len(names) - len(positions))
    matrix = torch.cat([*whole, fold_in(microbatches[:, None], positions)], 1)
    return matrix[:, :, None].expand(-1, -1, APART).contiguous()
