"""A step in two parts, where the state lives on a GPU: single numbers on the host, everything else on the device.

The learning rate and its like depend on the count of steps alone, and the count lives on the host. Given to a kernel as
an argument they would be fixed in a recording of the step, and every replay would use those of the recorded one. So
they are worked out before the rest begins, and written to memory of the device that the rest reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from funpipe.backends.emit import Emitted
from funpipe.backends.link import function_of


@dataclass(frozen=True)
class Parted:
    """The two parts of a step.

    Args:
        numbers: source of a function of the count of steps and a list of tensors: it fills them with the count and
            with the optimizer's numbers, and then counts this step.
        rest: what is left: it takes the numbers as further arguments, and the count from among them.
        position: of the count among the inputs.
    """

    numbers: str
    rest: Emitted
    position: int


def parted(emitted: Emitted) -> Parted | None:
    """Takes a step apart.

    Args:
        emitted: the whole.

    Returns:
        The parts; None if it has no numbers, and counts no steps.
    """
    on_host = [line for lines in emitted.body if lines.on_host for line in lines.text]
    if not on_host:
        return None
    position = emitted.inputs.index("step")
    *made, counted = on_host
    found = ", ".join([_variable(position), *emitted.numbers])
    fill = [f"for number, value in zip(numbers, ({found},)):", "    number.copy_(value, non_blocking=True)"]
    numbers = "\n    ".join([f"def numbers({_variable(position)}, numbers):", *made, *fill, counted]) + "\n"
    head = "".join([emitted.head.removesuffix("):"), *(f", {number}" for number in emitted.numbers), "):"])
    body = tuple(lines for lines in emitted.body if not lines.on_host)
    return Parted(numbers, replace(emitted, head=head, body=body), position)


def _variable(position: int) -> str:
    """Of an input in the source of a step."""
    return f"v{position}"


class Numbers:
    """The memory of the numbers, always the same, and how it is filled.

    Args:
        parts: of the step.
        functions: what its source refers to.
        device: of the state.
    """

    def __init__(self, parts: Parted, functions: Mapping[str, Any], device: str) -> None:
        self.parts = parts
        self.fill = function_of(parts.numbers, "numbers", dict(functions))
        self.count = torch.zeros((), dtype=torch.int64, device=device)
        self.numbers = [torch.zeros((), dtype=torch.float64, device=device) for _ in parts.rest.numbers]

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Fills the numbers, counts the step, and gives the arguments of the rest.

        Args:
            inputs: of the step; its count of steps is changed.
        """
        self.fill(inputs[self.parts.position], [self.count, *self.numbers])
        return self.among(inputs)

    def among(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The arguments of the rest, the numbers as they are."""
        at = self.parts.position
        return [*inputs[:at], self.count, *inputs[at + 1 :], *self.numbers]
