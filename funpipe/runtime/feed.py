"""`Feed`: a rank's state, batch and constants in the order in which its program takes them; worked out once."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from funpipe._typing import TensorType


class Feed:
    """What each step of one shape takes.

    Args:
        inputs: names of the program's inputs, in order.
        types: of all values of the programs.
        consts: tensors that the loss function closes over, by name.
        replica: the number of this one.
    """

    def __init__(
        self, inputs: Sequence[str], types: Mapping[str, TensorType], consts: Mapping[str, Tensor], replica: int = 0
    ) -> None:
        self.inputs = inputs
        named = [(n, *n.partition(".")[::2]) for n in inputs]
        self.batch = [(n, leaf, types[n].stride) for n, kind, leaf in named if kind == "batch"]
        self.consts = [(n, consts[leaf], types[n].stride) for n, kind, leaf in named if kind == "const"]
        self.replica = torch.tensor(replica, device="cpu")

    def __call__(self, state: Mapping[str, Tensor], batch: Mapping[str, Tensor], device: torch.device) -> list[Tensor]:
        """The inputs of one step.

        Args:
            state: the state's values by name.
            batch: the batch's leaves by name.
            device: where the step runs.
        """
        given = {n: _placed(batch[leaf], stride, device) for n, leaf, stride in self.batch}
        given |= {n: _placed(const, stride, device) for n, const, stride in self.consts}
        if "replica" in self.inputs:  # always the same tensor: a recorded step reads it where it was
            self.replica = given["replica"] = self.replica.to(device)
        return [given[n] if n in given else state[n] for n in self.inputs]


def _placed(value: Tensor, stride: tuple[int, ...], device: torch.device) -> Tensor:
    """A tensor as its program types it: on the step's device, laid out in rows."""
    if value.requires_grad or value.device != device:
        # What is not pinned has been read when the call returns, so the host need not wait for the device.
        value = value.detach().to(device, non_blocking=device.type == "cuda" and not value.is_pinned())
    return value if value.stride() == stride else value.contiguous()
