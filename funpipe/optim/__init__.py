"""Optimizers as pure functions over named leaves and over flat buckets, equal to `torch.optim`'s step for step."""

from funpipe.optim.adam import adam as adam
from funpipe.optim.adamw import adamw as adamw
from funpipe.optim.adapter import from_pair as from_pair
from funpipe.optim.base import Optimizer as Optimizer
from funpipe.optim.base import Transform as Transform
from funpipe.optim.base import map_slots as map_slots
from funpipe.optim.base import zero_slots as zero_slots
from funpipe.optim.chain import chain as chain
from funpipe.optim.clip import clip_by_global_norm as clip_by_global_norm
from funpipe.optim.context import Context as Context
from funpipe.optim.groups import groups as groups
from funpipe.optim.learning_rates import LearningRate as LearningRate
from funpipe.optim.learning_rates import constant as constant
from funpipe.optim.learning_rates import linear as linear
from funpipe.optim.learning_rates import warmup_cosine as warmup_cosine
from funpipe.optim.norm import norm_of_squares as norm_of_squares
from funpipe.optim.norm import square_sum as square_sum
from funpipe.optim.plain import apply as apply
from funpipe.optim.plain import context as context
from funpipe.optim.settings import Settings as Settings
from funpipe.optim.sgd import sgd as sgd
