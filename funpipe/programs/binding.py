"""How a region's inputs and outputs are named in a rank's program: worked out once, for all its microbatches."""

from collections.abc import Callable

from funpipe.programs.shared import Shared
from funpipe.stages.stage import Region

Version = Callable[[str], str]
"""The name of a buffer's value that a task reads."""


class Binding:
    """The names of one region on one rank.

    Args:
        shared: what all ranks share.
        region: the region.
        rank: the rank that runs it.

    Attributes:
        received: the inputs that other ranks make, with the rank of each, in the order in which they are received.
        sent: the outputs that other ranks read, with the rank of each reader.
    """

    def __init__(self, shared: Shared, region: Region, rank: int) -> None:
        self._inputs = region.inputs
        self._numbered = [_is_of_batch(name) or name in shared.makers for name in region.inputs]
        self._outputs = region.outputs
        self._buffers = [(at, name) for at, name in enumerate(region.inputs) if name.startswith("buffer.")]
        made = ((name, shared.placement(shared.makers[name])) for name in region.inputs if name in shared.makers)
        self.received = [(name, src) for name, src in made if src != rank]
        self.sent = [(name, dst) for name in region.outputs for dst in shared.readers.get(name, ()) if dst != rank]

    def reads(self, microbatch: int, version: Version) -> tuple[str, ...]:
        """The inputs' names: a number behind what each microbatch has its own of, and the versions of buffers."""
        number = f"@{microbatch}"
        names = [n + number if numbered else n for n, numbered in zip(self._inputs, self._numbered, strict=True)]
        for at, name in self._buffers:
            names[at] = version(name)
        return tuple(names)

    def writes(self, microbatch: int) -> tuple[str, ...]:
        """The outputs' names."""
        number = f"@{microbatch}"
        return tuple([name + number for name in self._outputs])


def _is_of_batch(name: str) -> bool:
    return name.partition(".")[0] in ("batch", "random")
