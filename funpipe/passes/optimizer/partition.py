"""Dividing the leaves of updates: by a function of their names, into equal parts, or by lists of names."""

from collections.abc import Callable, Hashable, Sequence

from funpipe._errors import PassError
from funpipe.graphs import Graph
from funpipe.graphs.near import near
from funpipe.passes.optimizer.calls import UpdateCall

Partition = Callable[[str], Hashable] | int | Sequence[Sequence[str]]
"""From a leaf's name to the key of its part, or the number of parts, or the leaves of each part by name."""


def parts_of(graph: Graph, call: UpdateCall, partition: Partition) -> list[list[int]]:
    """The leaves of each part of an update, by index; empty parts are left out.

    Args:
        graph: the graph, whose types say how large a leaf is.
        call: the update.
        partition: a leaf that lists do not name is in a part of its own with the others of these.
    """
    if isinstance(partition, int):
        keys: list[Hashable] = list(_equal(graph, call, partition))
    elif callable(partition):
        keys = [partition(leaf) for leaf in call.leaves]
    else:
        keys = [_part_named(partition, leaf) for leaf in call.leaves]
    return grouped(keys)


def grouped(keys: Sequence[Hashable]) -> list[list[int]]:
    """The indices of equal keys, in the order of their first.

    Example:
        >>> grouped(["a", "b", "a"])
        [[0, 2], [1]]
    """
    found: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return list(found.values())


def _equal(graph: Graph, call: UpdateCall, count: int) -> list[int]:
    """Consecutive parts of about as many bytes."""
    sizes = [max(graph.type_of(name).nbytes, 1) for name in call.params]
    total, below, keys = sum(sizes), 0, []
    for size in sizes:
        keys.append(min((2 * below + size) * count // (2 * total), count - 1))
        below += size
    return keys


def _part_named(lists: Sequence[Sequence[str]], leaf: str) -> int:
    return next((i for i, part in enumerate(lists) if any(is_named(leaf, name) for name in part)), len(lists))


def is_named(leaf: str, name: str) -> bool:
    """Whether a name means a leaf: it is the leaf's, or its end from a dot on.

    Example:
        >>> is_named("params.0.weight", "0.weight"), is_named("params.10.weight", "0.weight")
        (True, False)
    """
    return leaf == name or leaf.endswith(f".{name}")


def check_partition(partition: Partition) -> None:
    """Raises unless a partition is of a known kind.

    Raises:
        PassError: it is not.
    """
    whole = isinstance(partition, int) and not isinstance(partition, bool) and partition >= 1
    lists = isinstance(partition, Sequence) and all(
        isinstance(part, Sequence) and not isinstance(part, str) for part in partition
    )
    if not (whole or callable(partition) or (lists and not isinstance(partition, str))):
        raise PassError(
            f"a partition is {partition!r}: pass a number of parts from 1 on, a function from a leaf's name to the key "
            "of its part, or lists of names, such as [['0.weight', '0.bias']]."
        )


def check_names(partition: Partition, leaves: Sequence[str]) -> None:
    """Raises unless every name in lists means one leaf, and none is there twice.

    Args:
        partition: any.
        leaves: of all updates.

    Raises:
        PassError: a name means no leaf, or more than one.
    """
    if isinstance(partition, int) or callable(partition):
        return
    for name in (name for part in partition for name in part):
        meant = [leaf for leaf in leaves if is_named(leaf, name)]
        if not meant:
            raise PassError(f"the partition names {name!r}, and no update has such a leaf; {near(name, leaves)}")
        if len(meant) > 1:
            raise PassError(f"the partition names {name!r}, which means {len(meant)} leaves; use one of {meant}.")
