"""Where one input of a stage comes from, and the memory it is received in."""

import torch

from funpipe.interop.pipelining._utils import _TensorMeta


class _RecvInfo:
    """One input, or one gradient, that a stage receives.

    Args:
        input_name: what it is called in messages to people.
        source: the stage it comes from; None: it is an argument of the model.
        buffer: what it is received in, of the received tensor's shape; None: nothing is received.
        tensor_meta: the shape, strides and dtype that it has.
        is_root_arg: whether it is an argument of the model.
    """

    def __init__(
        self,
        input_name: str,
        source: int | None,
        buffer: torch.Tensor | None,
        tensor_meta: _TensorMeta | None,
        *,
        is_root_arg: bool = False,
    ) -> None:
        self.input_name = input_name
        self.source = source
        self.buffer = buffer
        self.tensor_meta = tensor_meta
        self.is_root_arg = is_root_arg

    def __repr__(self) -> str:
        """One line, without the buffer's values."""
        if self.is_root_arg:
            return f"_RecvInfo(input={self.input_name}, root_arg=True)"
        shape = None if self.buffer is None else self.buffer.shape
        return f"_RecvInfo(input={self.input_name}, source={self.source}, shape={shape}, meta={self.tensor_meta})"
