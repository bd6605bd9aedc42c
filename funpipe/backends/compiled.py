"""What a backend makes of a rank's program."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from funpipe.backends.sizes import Sizes

CudaGraph = bool | Literal["auto"]
"""Whether a step becomes a CUDA graph; `"auto"`: where it can."""

Report = Callable[[str, int, int], None]
"""Takes what is being compiled, how many graphs are done, and of how many."""


def silent(name: str, done: int, count: int) -> None:
    """Reports nothing."""


class Executable(Protocol):
    """A rank's step, ready to run."""

    def __call__(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Runs the step.

        Args:
            inputs: the program's inputs, in its order; state among them may be overwritten.

        Returns:
            The program's outputs, and every state value, by name.
        """
        ...

    def as_text(self) -> str:
        """What runs, for reading."""
        ...


@dataclass(frozen=True)
class Request:
    """How a rank wants its program compiled.

    Args:
        rank: the pipeline rank.
        transport: the handle that communication goes through.
        fuse: whether regions may be fused with each other (numerics="fast").
        report: is told before each graph that is compiled: its name, how many are done, and how many there are.
        cuda_graph: whether the step becomes a CUDA graph.
        sizes: that it is compiled for batches of every size; None: for its own.
    """

    rank: int
    transport: int
    fuse: bool = False
    report: Report = silent
    cuda_graph: CudaGraph = "auto"
    sizes: Sizes | None = None
