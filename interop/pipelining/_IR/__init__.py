"""The front end: a model is traced, and cut into stages."""

from funpipe.interop.pipelining._IR.detach_executor import DetachExecutor as DetachExecutor
from funpipe.interop.pipelining._IR.front_end import pipeline as pipeline
from funpipe.interop.pipelining._IR.loss_wrappers import LossWrapper as LossWrapper
from funpipe.interop.pipelining._IR.loss_wrappers import TrivialLossWrapper as TrivialLossWrapper
from funpipe.interop.pipelining._IR.marks import aten_pipe_split_alias as aten_pipe_split_alias
from funpipe.interop.pipelining._IR.marks import pipe_split as pipe_split
from funpipe.interop.pipelining._IR.multi_use import MultiUseParameterConfig as MultiUseParameterConfig
from funpipe.interop.pipelining._IR.multi_use import MultiUseParamSpec as MultiUseParamSpec
from funpipe.interop.pipelining._IR.pipe import Pipe as Pipe
from funpipe.interop.pipelining._IR.sequential import PipeSequential as PipeSequential
from funpipe.interop.pipelining._IR.split_points import PipeSplitWrapper as PipeSplitWrapper
from funpipe.interop.pipelining._IR.split_points import SplitPoint as SplitPoint
from funpipe.interop.pipelining._IR.split_points import annotate_split_points as annotate_split_points
from funpipe.interop.pipelining._IR.submodule_names import PP_SUBMOD_PREFIX as PP_SUBMOD_PREFIX
from funpipe.interop.pipelining._IR.submodule_names import get_submod_name as get_submod_name
