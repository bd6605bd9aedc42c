"""Which dtype each part of a step has: the policy, its presets, and the scale of the loss."""

from funpipe.functional.precision.policy import Precision as Precision
from funpipe.functional.precision.policy import resolve_precision as resolve_precision
from funpipe.functional.precision.presets import bf16 as bf16
from funpipe.functional.precision.presets import fp16 as fp16
from funpipe.functional.precision.presets import pure_bf16 as pure_bf16
from funpipe.functional.precision.scale import DynamicScale as DynamicScale
