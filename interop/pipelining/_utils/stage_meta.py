"""What a stage knows of its inputs and outputs, and whether that is enough to run without finding out the rest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from funpipe.interop.pipelining._utils.dtensor_meta import _DTensorMeta
from funpipe.interop.pipelining._utils.tensor_meta import _TensorMeta

TensorMeta: TypeAlias = _TensorMeta | _DTensorMeta


@dataclass
class _StageMeta:
    """What is known of a stage's tensors; None: nothing.

    Example:
        >>> _StageMeta(inputs=()).has_any(), _StageMeta(inputs=()).is_complete_for_forward()
        (True, False)
    """

    inputs: tuple[TensorMeta, ...] | None = None
    outputs: tuple[TensorMeta, ...] | None = None
    input_grads: tuple[TensorMeta | None, ...] | None = None
    output_grads: tuple[TensorMeta | None, ...] | None = None

    def has_any(self) -> bool:
        """Whether anything is known."""
        return any(metas is not None for metas in self._all())

    def has_dtensors(self) -> bool:
        """Whether a DTensor is among what is known."""
        return any(isinstance(meta, _DTensorMeta) for metas in self._all() for meta in metas or ())

    def is_complete_for_forward(self) -> bool:
        """Whether both inputs and outputs are known."""
        return self.inputs is not None and self.outputs is not None

    def _all(self) -> tuple[tuple[TensorMeta | None, ...] | None, ...]:
        return self.inputs, self.outputs, self.input_grads, self.output_grads


@dataclass(frozen=True)
class _StageForwardMeta:
    """What a stage tells the next one of its outputs."""

    forward_metas: tuple[TensorMeta, ...]


@dataclass(frozen=True)
class _StageBackwardMeta:
    """What a stage tells the one before it of the gradients of its inputs."""

    backward_metas: tuple[TensorMeta | None, ...]


class InferenceMode(Enum):
    """Whether the user gave what is to be known of the tensors, or it has to be found out."""

    STATIC = "static"
    DYNAMIC = "dynamic"

    @classmethod
    def needs_dynamic(cls, meta: _StageMeta, stage_has_backward: bool) -> bool:
        """Whether something has to be found out.

        The gradients of plain tensors are like them; those of DTensors may be placed otherwise, and have to be given.

        Args:
            meta: What is known.
            stage_has_backward: Whether gradients will be computed.

        Example:
            >>> InferenceMode.needs_dynamic(_StageMeta(inputs=(), outputs=()), stage_has_backward=True)
            False
        """
        if not meta.is_complete_for_forward():
            return True
        known = meta.input_grads is not None and meta.output_grads is not None
        return stage_has_backward and meta.has_dtensors() and not known
