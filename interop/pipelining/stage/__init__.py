"""Stages: a module with its place in the pipeline, and its forward and backward of one microbatch at a time."""

from funpipe.interop.pipelining.stage.base import _PipelineStageBase as _PipelineStageBase
from funpipe.interop.pipelining.stage.manual import PipelineStage as PipelineStage
from funpipe.interop.pipelining.stage.outputs import (
    _normalize_model_output_as_tuple as _normalize_model_output_as_tuple,
)
from funpipe.interop.pipelining.stage.received import _RecvInfo as _RecvInfo
from funpipe.interop.pipelining.stage.traced import _PipelineStage as _PipelineStage
from funpipe.interop.pipelining.stage.traced import build_stage as build_stage

__all__ = ["PipelineStage", "build_stage"]
