"""Splitting updates, so that parts of them can move on their own."""

from functools import partial

from funpipe.graphs import Graph
from funpipe.passes.base import Pass
from funpipe.passes.optimizer.calls import updates
from funpipe.passes.optimizer.lists import split_lists
from funpipe.passes.optimizer.partition import Partition, check_names, check_partition, parts_of


def split_updates(partition: Partition) -> Pass:
    """Makes one update of each part of the leaves. Bits do not change: a leaf's update reads no other leaf.

    Args:
        partition: a function from a leaf's name (`"params.0.weight"`) to the key of its part; or a number of parts,
            which get about as many bytes each; or lists of names, which may leave out what is in front of a dot, with
            the leaves that none names as one more part.

    Returns:
        A pass over graphs. Values keep their names. `merge_updates` undoes it.

    Raises:
        PassError: the partition is of another kind; or, when it is applied, names no leaf.

    Example:
        >>> import torch, funpipe as fp
        >>> def step(state, batch):
        ...     gradients = {name: batch * p for name, p in state.items()}
        ...     return fp.optim.apply(fp.optim.sgd(0.1), state, gradients, {}, torch.tensor(0))[0], {}
        >>> traced = fp.trace_step(step, {"a": torch.ones(2), "b": torch.ones(2)}, torch.ones(2))
        >>> [call.leaves for call in updates(split_updates([["b"]])(traced).graph)]
        [('a',), ('b',)]
    """
    check_partition(partition)
    return Pass("split_updates", partial(_split, partition), repeats=True)


def _split(partition: Partition, graph: Graph) -> Graph:
    calls = updates(graph)
    check_names(partition, [leaf for call in calls for leaf in call.leaves])
    for call in calls:
        parts = parts_of(graph, call, partition)
        if len(parts) > 1:
            graph = split_lists(graph, call.name, parts, "split_updates")
    return graph
