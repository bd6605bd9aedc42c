"""What an update may know beyond the entries it is given: the step, the labels, the global norm."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor


@dataclass(frozen=True)
class Context:
    """What an update may read besides gradients, state and parameters; whoever runs the update provides it.

    Args:
        step: 0-dim int64 tensor: the number of updates done before this one; starts at 0.
        label: gives the label of an entry (a leaf or a flat bucket) by its name.
        global_norm: gives the norm of all gradients of the model, not just of the entries at hand: a 0-dim tensor.
        scalars: the optimizer's `scalars(step)`: 0-dim float64 tensors by name.
    """

    step: Tensor
    label: Callable[[str], Hashable]
    global_norm: Callable[[], Tensor]
    scalars: Mapping[str, Tensor] = field(default_factory=dict)

    def part(self, index: int) -> "Context":
        """The context of the `index`-th part of a chain: its scalars without their prefix, its own labels."""
        prefix = f"{index}."
        scalars = {name.removeprefix(prefix): x for name, x in self.scalars.items() if name.startswith(prefix)}
        return replace(self, label=lambda entry: _part_label(self.label(entry), index), scalars=scalars)


def _part_label(label: Hashable, index: int) -> Hashable:
    """A chain labels with one label per part, or with None when no part has labels."""
    return label[index] if isinstance(label, tuple) else None
