"""Plain PyTorch: what users write without a library of models."""

from tests.models.plain_attention import ATTENTION
from tests.models.plain_layers import LAYERS
from tests.models.plain_operators import OPERATORS
from tests.models.plain_trees import TREES

PLAIN = (*LAYERS, *ATTENTION, *OPERATORS, *TREES)
