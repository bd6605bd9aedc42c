"""Training models of Hugging Face transformers, and others that return their loss: where to cut, what to minimise."""

from funpipe.interop.transformers.errors import ModelError as ModelError
from funpipe.interop.transformers.layers import layers_of as layers_of
from funpipe.interop.transformers.loss_of import loss_of as loss_of
from funpipe.interop.transformers.split_by_layers import SplitByLayers as SplitByLayers
from funpipe.interop.transformers.split_by_layers import split_by_layers as split_by_layers
