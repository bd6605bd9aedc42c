"""What a user makes: the one folder that sees every other."""

from funpipe._api.eval_step import EvalStep as EvalStep
from funpipe._api.eval_step import eval_step as eval_step
from funpipe._api.train_step import TrainStep as TrainStep
from funpipe._api.train_step import train_step as train_step
from funpipe._api.value_and_grad import value_and_grad as value_and_grad
