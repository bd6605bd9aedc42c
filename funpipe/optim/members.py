"""Which optimizer updates the leaves of a label, and the state that it keeps of them."""

from collections.abc import Hashable

from funpipe.optim.base import Entries, Optimizer, State


def member(optimizer: Optimizer, label: Hashable) -> tuple[Optimizer, Hashable, str | None]:
    """The optimizer that updates the leaves of a label, the label that it gives them, and the group's name.

    Args:
        optimizer: with groups or without; one without updates its leaves itself.
        label: that this optimizer gives.

    Example:
        >>> from funpipe.optim import groups, sgd
        >>> optimizer = groups({"slow": sgd(0.1), "fast": sgd(1.0)}, lambda name, leaf: "slow")
        >>> print(member(optimizer, ("fast", None))[0])
        sgd(lr=1.0)
    """
    return optimizer.group(label) if optimizer.group else (optimizer, label, None)


def initial_state(optimizer: Optimizer, label: Hashable, params: Entries) -> State:
    """The state of entries of one label, flat buckets among them, whose names say nothing.

    Args:
        optimizer: with groups or without.
        label: of all entries.
        params: the entries by name.
    """
    return member(optimizer, label)[0].init(params)
