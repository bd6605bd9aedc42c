"""Which values a forward saves for its backward, and which the backward computes again: the cheapest choice.

Choices that are best at some price of a byte are the corners of the convex hull of all pairs (bytes, cost), and the
edge of the hull over a budget bounds from below what any choice in the budget costs. Between two corners the problem is
a knapsack: branch and bound decides value by value, as long as it may.

To save some values of a chain and compute the others again is from T. Chen et al., "Training Deep Nets with Sublinear
Memory Cost" (arXiv 1604.06174, 2016).
"""

from dataclasses import replace

from funpipe.stages.choices import Choice, Values

WORK = 4000
"""How many values the search looks at, each as often as it lies in a part of the problem: a second at most."""

SHARE = 100
"""The search ends when no choice can be cheaper by more than this part of the cost (a hundredth)."""

NUDGE = 1000
"""Costs are changed by up to a thousandth before the search, so that of equal layers one gives way after the other."""


def cheapest(values: Values, budget: int) -> Choice | None:
    """The cheapest choice in a budget.

    It is never over the budget. No choice in the budget is cheaper by more than about a hundredth, unless the search
    used up its work; then none is cheaper than the corner of the hull above the budget, and the one that is returned
    is at most as expensive as the corner below.

    Args:
        values: what there is to choose from.
        budget: the most bytes that may be saved.

    Returns:
        The choice; None if every choice takes more bytes.
    """
    if values.all_saved.nbytes <= budget:
        return values.all_saved
    parts, found = [_nudged(values)], None
    for _ in range(1 + WORK // len(values.reads)):
        if not parts:
            break
        part = parts.pop()
        if part.smallest.nbytes > budget:
            continue
        below, above = _corners(part, budget)
        found = below if found is None or below.cost < found.cost else found
        if _may_be_cheaper(found, below, above, budget):
            parts += _halves(part, below, above)
    return found and _trimmed(values, values.choice(found.saved))


def _trimmed(values: Values, found: Choice) -> Choice:
    """The choice without what is saved and spares nothing: one part of what an operator gives, the others made anew."""
    for value in (v for v in found.saved if values.cost[v] == 0):
        less = values.choice(v for v in found.saved if v != value)
        if less.nbytes < found.nbytes and less.cost <= found.cost:
            found = less
    return found


def _corners(values: Values, budget: int) -> tuple[Choice, Choice]:
    """The corners of the hull on both sides of the budget: between two there is another, or they are neighbours."""
    below, above = values.smallest, values.fastest
    if above.nbytes <= budget:
        return above, above
    while True:
        per_byte, per_cost = below.cost - above.cost, above.nbytes - below.nbytes
        found = values.best(per_byte, per_cost)
        if per_byte * (below.nbytes - found.nbytes) + per_cost * (below.cost - found.cost) == 0:
            return below, above
        below, above = (found, above) if found.nbytes <= budget else (below, found)


def _may_be_cheaper(found: Choice, below: Choice, above: Choice, budget: int) -> bool:
    """Whether the hull's edge over the budget is lower than what was found, by more than is of interest."""
    width, height = above.nbytes - below.nbytes, below.cost - above.cost
    gap = (found.cost - below.cost) * width + (budget - below.nbytes) * height
    return gap * SHARE > found.cost * width


def _halves(values: Values, below: Choice, above: Choice) -> list[Values]:
    """The part of the choices that never save a value, and the part that never compute it again.

    The largest one that the choice above saves and the one below computes again: there is one, or they cost the same.
    """
    again = set(below.again)
    value = max((v for v in above.saved if v in again), key=lambda v: values.nbytes[v] or 0)
    return [
        replace(values, nbytes=_without(values.nbytes, value)),
        replace(values, cost=_without(values.cost, value)),
    ]


def _without(amounts: tuple[int | None, ...], index: int) -> tuple[int | None, ...]:
    return (*amounts[:index], None, *amounts[index + 1 :])


def _nudged(values: Values) -> Values:
    """The same with later values a little more expensive; costs are counted in smaller units."""
    count = len(values.cost)
    return replace(
        values, cost=tuple(None if c is None else c * (NUDGE * count + i) for i, c in enumerate(values.cost))
    )
