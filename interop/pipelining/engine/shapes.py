"""What stages return, found from the first to the last: each one's inputs are known once those before it are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from funpipe.interop.pipelining.engine.skeleton import Hole, Skeleton
from funpipe.interop.pipelining.trees import flatten, unflatten
from funpipe.tracing import Leaf


@dataclass(frozen=True, eq=False)
class Shape:
    """What a stage returns.

    Args:
        outputs: a tuple without its tensors, whose names are `out.0`, `out.1`, …
        leaves: the tensors, by name.
        passed: arguments of the model that the first stage passes on: trees, by index.
    """

    outputs: Skeleton
    leaves: Mapping[str, Leaf]
    passed: Mapping[int | str, Skeleton] = field(default_factory=dict)

    def positional(self, maker: int) -> list[Skeleton]:
        """The positional inputs of the stage behind.

        Args:
            maker: the index of the stage that returns this.
        """
        parts = unflatten(self.outputs.structure, [_Box(leaf) for leaf in self.outputs.leaves])
        return [_part(part, maker) for part in parts]

    def one(self, maker: int, index: int) -> Skeleton:
        """One flat tensor of it."""
        return _leaf(Hole(wired(maker, f"out.{index}")))

    def argument(self, index: int | str) -> Skeleton:
        """An argument of the model that is passed on by the first stage."""
        found = self.passed[index]
        return Skeleton(found.structure, tuple(_from(leaf, 0) for leaf in found.leaves))


@dataclass(frozen=True)
class _Box:
    """Keeps a leaf a leaf."""

    leaf: Any


def wired(maker: int, output: str) -> str:
    """The name of an input that is an output of another stage."""
    return f"from.{maker}.{output}"


def source_of(name: str) -> tuple[int, str] | None:
    """The stage and output that an input comes from; None for what its own rank gives."""
    kind, _, rest = name.partition(".")
    if kind != "from":
        return None
    maker, _, output = rest.partition(".")
    return int(maker), output


def _part(part: Any, maker: int) -> Skeleton:
    leaves, structure = flatten(part)
    return Skeleton(structure, tuple(_from(box.leaf, maker) for box in leaves))


def _from(leaf: Any, maker: int) -> Any:
    return Hole(wired(maker, leaf.name)) if isinstance(leaf, Hole) else leaf


def _leaf(hole: Hole) -> Skeleton:
    return Skeleton(flatten(hole)[1], (hole,))
