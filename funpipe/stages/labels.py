"""All ways to cut the beginning of a line that may still keep the limits, stage by stage.

A label is a way to cut the line up to a boundary: what each rank holds by then, and which shared leaves it has read. A
rank that read a leaf has a copy of it, from the stage on where the leaf lives; a backward may read it in an earlier one
(a checkpoint that computes again what several stages did). Of two labels of one boundary the one is dropped that holds
no less on any rank that can still get more, and has no copy that the other has not, nor fewer to get; and so is one for
which a lower bound of what comes shows that a limit will not be kept.

Source: M. Desrochers and F. Soumis, "A generalized permanent labelling algorithm for the shortest path problem with
time windows", INFOR 26 (1988).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from funpipe.stages.corners import Amounts
from funpipe.stages.held import Bounds, Held

MOST = 20_000
"""The labels that are kept of a stage: of more, those whose bounds are the lowest."""

COMPARED = 512
"""How many of the lightest labels the others are compared with."""


@dataclass(frozen=True, eq=False)
class Bound:
    """A lower bound of weighted memory.

    Args:
        weights: of the ranks.
        least: shape (stages + 1, boundaries), of the stages that are left from a boundary on, by their number.
    """

    weights: Amounts
    least: Amounts


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Args:
        bounds: a partition; None: none was found.
        proved: whether that is certain: that there is none, or, of the best one, that no other is better.
    """

    bounds: Bounds | None
    proved: bool = True


@dataclass(frozen=True, eq=False)
class Labels:
    """Some ways to cut the line up to the end of a stage, one in each row.

    Args:
        at: the boundary where the stage ends.
        held: the bytes of each rank.
        copies: whether each rank has read each shared leaf, shape (labels, ranks * leaves).
        parent: the row of the label that it continues.
    """

    at: Amounts
    held: Amounts
    copies: np.ndarray
    parent: Amounts

    def take(self, rows: np.ndarray) -> "Labels":
        """Some of the labels."""
        return Labels(self.at[rows], self.held[rows], self.copies[rows], self.parent[rows])


def follow(held: Held, allowed: np.ndarray, bounds: Sequence[Bound], limit: int, ticks: int) -> Found:
    """A partition that keeps the limits.

    Args:
        held: what each rank holds.
        allowed: whether a suffix of so many stages may begin at a boundary, shape (stages + 1, boundaries).
        bounds: of what is still to come.
        limit: the bytes that a rank may hold.
        ticks: what a stage may take.

    Returns:
        The boundaries, or None, which is no proof where labels were dropped that might have led to a partition.
    """
    width = held.num_ranks * len(held.leaves)
    none, proved = np.zeros(1, np.int64), True
    layers = [Labels(none, np.zeros((1, held.num_ranks), np.int64), np.zeros((1, width), bool), none)]
    for stage in range(len(held.ranks)):
        grown = _grown(held, stage, layers[-1], allowed[len(held.ranks) - 1 - stage], (limit, ticks))
        if not any(len(labels.at) for labels in grown):
            return Found(None, proved)
        kept = _kept(held, stage, grown, bounds, limit)
        proved = proved and len(kept.at) <= MOST
        layers.append(_most_promising(held, stage, kept, bounds, limit))
    return Found(_traced_back(layers)) if len(layers[-1].at) else Found(None, proved)


def _traced_back(layers: Sequence[Labels]) -> Bounds:
    row, found = 0, []
    for layer in reversed(layers):
        found.append(int(layer.at[row]))
        row = int(layer.parent[row])
    return tuple(reversed(found))


def _grown(held: Held, stage: int, before: Labels, ends: np.ndarray, within: tuple[int, int]) -> list[Labels]:
    """For each boundary where a stage may end the labels that end there."""
    used = np.unique(np.concatenate([[0, held.grid.size], before.at, np.flatnonzero(ends)]))
    few = held.grid.among(used)
    times, nbytes = few.work.dense() + few.transfer(few.received.dense()), few.resident.dense()
    nbytes += held.in_flight[stage] * few.saved.dense()
    starts = np.searchsorted(used, before.at)
    grown = []
    for end in np.flatnonzero(ends):
        column = int(np.searchsorted(used, end))
        rows = np.flatnonzero((before.at < end) & (times[starts, column] <= within[1]))
        made = _continued(held, stage, before, rows, int(end), nbytes[starts[rows], column])
        grown.append(made.take(made.held.max(axis=1) <= within[0]))
    return grown


def _continued(held: Held, stage: int, before: Labels, rows: np.ndarray, end: int, nbytes: Amounts) -> Labels:
    """Some labels with one stage more."""
    rank, amounts, copies = held.ranks[stage], before.held[rows], before.copies[rows]
    amounts[:, rank] += nbytes
    for number, leaf in enumerate(held.leaves):
        readers = copies[:, number :: len(held.leaves)]
        for start in np.unique(before.at[rows]):
            if leaf.within(int(start), end):
                mine = before.at[rows] == start
                if start <= leaf.home < end:
                    readers[mine, rank] = False  # the grid counts it here
                    amounts[mine] += leaf.nbytes * readers[mine]
                elif leaf.home < start:
                    amounts[mine, rank] += np.where(readers[mine, rank], 0, leaf.nbytes)
                readers[mine, rank] = True
    return Labels(np.full(len(rows), end), amounts, copies, rows)


def _kept(held: Held, stage: int, grown: Sequence[Labels], bounds: Sequence[Bound], limit: int) -> Labels:
    """The labels from which a partition may come that no other label gives as well."""
    left = len(held.ranks) - 1 - stage
    good = []
    for labels in grown:
        over = _over(labels, bounds, left, limit)
        labels = labels.take(over <= 0)
        good.append(labels.take(_undominated(_compared(held, stage, labels))))
    parts = zip(*((g.at, g.held, g.copies, g.parent) for g in good), strict=True)
    return Labels(*(np.concatenate(part) for part in parts))


def _compared(held: Held, stage: int, labels: Labels) -> np.ndarray:
    """In each row what a label of one boundary should have less of."""
    # Leaves that were read already, and live in a stage to come: their readers' ranks get copies then.
    ahead = np.array(
        [labels.at.max(initial=0) <= leaf.home > min(leaf.others, default=leaf.home) for leaf in held.leaves], bool
    )
    ranks = range(held.num_ranks) if ahead.any() else sorted(set(held.ranks[stage + 1 :]))
    return np.concatenate([labels.held[:, ranks], labels.copies == np.tile(ahead, held.num_ranks)], axis=1)


def _most_promising(held: Held, stage: int, labels: Labels, bounds: Sequence[Bound], limit: int) -> Labels:
    """The labels, or the `MOST` whose bounds are the lowest."""
    if len(labels.at) <= MOST:
        return labels
    over = _over(labels, bounds, len(held.ranks) - 1 - stage, limit)
    return labels.take(np.argsort(over, kind="stable")[:MOST])


def _over(labels: Labels, bounds: Sequence[Bound], left: int, limit: int) -> Amounts:
    """By how much the weighted memory will be over its limit at least, by the worst of the bounds."""
    if not len(labels.at):
        return np.zeros(0, np.int64)
    each = (labels.held @ b.weights + b.least[left][labels.at] - int(b.weights.sum()) * limit for b in bounds)
    return np.max(np.stack(list(each)), axis=0)


def _undominated(amounts: Amounts) -> np.ndarray:
    """The rows of which no other row, of the lightest ones, is nowhere larger; ascending by their sum."""
    _, first = np.unique(amounts, axis=0, return_index=True)
    first = first[np.argsort(amounts[first].sum(axis=1), kind="stable")]
    rows, kept = amounts[first], np.ones(len(first), bool)
    for i in range(min(COMPARED, len(first))):
        if kept[i]:
            kept[i + 1 :] &= (rows[i + 1 :] < rows[i]).any(axis=1)
    return first[kept]
