"""What front ends, stages and schedules share: placements, what is known of tensors, and its checks."""

from funpipe.interop.pipelining._utils.correspondence import (
    validate_static_arg_grad_correspondence as validate_static_arg_grad_correspondence,
)
from funpipe.interop.pipelining._utils.dtensor_meta import _DTensorMeta as _DTensorMeta
from funpipe.interop.pipelining._utils.extract import extract_tensor_meta as extract_tensor_meta
from funpipe.interop.pipelining._utils.extract import extract_tensor_metas as extract_tensor_metas
from funpipe.interop.pipelining._utils.flatten import flatten_args as flatten_args
from funpipe.interop.pipelining._utils.flatten import flatten_args_detach as flatten_args_detach
from funpipe.interop.pipelining._utils.local import is_dtensor as is_dtensor
from funpipe.interop.pipelining._utils.local import to_local_if_dtensor as to_local_if_dtensor
from funpipe.interop.pipelining._utils.mesh_cache import GetMeshCallback as GetMeshCallback
from funpipe.interop.pipelining._utils.mesh_cache import _MeshCache as _MeshCache
from funpipe.interop.pipelining._utils.mesh_layout import MeshLayout as MeshLayout
from funpipe.interop.pipelining._utils.normalize import (
    validate_and_normalize_to_tuple as validate_and_normalize_to_tuple,
)
from funpipe.interop.pipelining._utils.pipe_info import PipeInfo as PipeInfo
from funpipe.interop.pipelining._utils.placement import (
    generate_rank_to_stage_mapping as generate_rank_to_stage_mapping,
)
from funpipe.interop.pipelining._utils.placement import (
    generate_stage_to_rank_mapping as generate_stage_to_rank_mapping,
)
from funpipe.interop.pipelining._utils.stage_meta import InferenceMode as InferenceMode
from funpipe.interop.pipelining._utils.stage_meta import TensorMeta as TensorMeta
from funpipe.interop.pipelining._utils.stage_meta import _StageBackwardMeta as _StageBackwardMeta
from funpipe.interop.pipelining._utils.stage_meta import _StageForwardMeta as _StageForwardMeta
from funpipe.interop.pipelining._utils.stage_meta import _StageMeta as _StageMeta
from funpipe.interop.pipelining._utils.tensor_meta import _derive_grad_metas as _derive_grad_metas
from funpipe.interop.pipelining._utils.tensor_meta import _make_tensor_from_meta as _make_tensor_from_meta
from funpipe.interop.pipelining._utils.tensor_meta import _TensorMeta as _TensorMeta
from funpipe.interop.pipelining._utils.validate import validate_metadata as validate_metadata
from funpipe.interop.pipelining._utils.validate import validate_tensors_metadata as validate_tensors_metadata
from funpipe.interop.pipelining.errors import PipeliningMetadataError as PipeliningMetadataError
