"""What an update may know beyond the entries it is given: the step, the labels, the global norm."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from funpipe.functional.random.keys import fold_in, from_name


@dataclass(frozen=True)
class Context:
    """What an update may read besides gradients, state and parameters; whoever runs the update provides it.

    Args:
        step: 0-dim int64 tensor: the number of updates done before this one; starts at 0.
        label: gives the label of an entry (a leaf or a flat bucket) by its name.
        global_norm: gives the norm of all gradients of the model, not just of the entries at hand: a 0-dim tensor.
        scalars: the optimizer's `scalars(step)`: 0-dim float64 tensors by name.
        base_key: 0-dim int64, the key of the training; None: there is none, or the optimizer does not say `needs_key`.
    """

    step: Tensor
    label: Callable[[str], Hashable]
    global_norm: Callable[[], Tensor]
    scalars: Mapping[str, Tensor] = field(default_factory=dict)
    base_key: Tensor | None = None

    @property
    def key(self) -> Tensor | None:
        """The key of this step's update, another one than the model's; fold in a leaf's name with `from_name`."""
        return None if self.base_key is None else from_name(fold_in(self.base_key, self.step), "update")

    def part(self, index: int) -> "Context":
        """The context of the `index`-th part of a chain: its scalars without their prefix, its own labels."""
        prefix = f"{index}."
        scalars = {name.removeprefix(prefix): x for name, x in self.scalars.items() if name.startswith(prefix)}
        return replace(self, label=lambda entry: _part_label(self.label(entry), index), scalars=scalars)


def _part_label(label: Hashable, index: int) -> Hashable:
    """A chain labels with one label per part, or with None when no part has labels."""
    return label[index] if isinstance(label, tuple) else None
