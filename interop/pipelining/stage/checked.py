"""Tensors at a stage's border, compared with what was declared, for who looks for a mistake."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from funpipe.interop.pipelining._utils import extract_tensor_metas, validate_tensors_metadata

if TYPE_CHECKING:
    from funpipe.interop.pipelining.stage.base import _PipelineStageBase


def check(
    stage: "_PipelineStageBase",
    what: str,
    declared: tuple[torch.Tensor | None, ...] | None,
    tensors: Sequence[torch.Tensor | None],
) -> None:
    """Compares shapes, strides and dtypes, if TORCH_DISTRIBUTED_DEBUG=DETAIL or the stage's `_runtime_validate` asks.

    Args:
        stage: whose tensors they are.
        what: what they are.
        declared: tensors like those that are expected; None: anything is.
        tensors: what came.

    Raises:
        PipeliningMetadataError: they differ.
    """
    if declared is not None and (stage._runtime_validate or _is_detailed()):
        expected = extract_tensor_metas(declared, allow_none=True) or ()
        validate_tensors_metadata(f"Stage {stage.stage_index} {what}", expected, tensors)


def _is_detailed() -> bool:
    return os.environ.get("TORCH_DISTRIBUTED_DEBUG", "").upper() == "DETAIL"
