"""Microbatches: arguments, keyword arguments and targets cut into chunks, and chunks of outputs merged.

Every function takes a spec, which says what happens to each leaf of a tree:

- `None`: the default. A tensor is cut along dimension 0, a `BlockMask` along its batch, anything else is replicated.
- `TensorChunkSpec(dim)`: cut, or joined, along `dim`.
- `_Replicate` (the class or an instance): every chunk has the same value.
- `_CustomReducer(init, fn)`, for merging only: the chunks' values are folded.

Specs form a tree that begins as the arguments do; one that stands where these have a container applies to all in it.
"""

from funpipe.interop.pipelining.microbatch.block_mask import _split_block_mask as _split_block_mask
from funpipe.interop.pipelining.microbatch.merge import merge_chunks as merge_chunks
from funpipe.interop.pipelining.microbatch.reducers import _CustomReducer as _CustomReducer
from funpipe.interop.pipelining.microbatch.reducers import _LossReducer as _LossReducer
from funpipe.interop.pipelining.microbatch.reducers import sum_reducer as sum_reducer
from funpipe.interop.pipelining.microbatch.specs import TensorChunkSpec as TensorChunkSpec
from funpipe.interop.pipelining.microbatch.specs import _Replicate as _Replicate
from funpipe.interop.pipelining.microbatch.split import split_args_kwargs_into_chunks as split_args_kwargs_into_chunks
from funpipe.interop.pipelining.microbatch.split import split_targets as split_targets

__all__ = ["TensorChunkSpec", "merge_chunks", "split_args_kwargs_into_chunks", "split_targets"]

# Set to True to debug: chunks keep the size of the whole, with zeros where other chunks' rows are.
_debug_mask_minibatches = False
