"""What a user makes: the one folder that sees every other."""

from funpipe._api.eval_step import EvalStep as EvalStep
from funpipe._api.eval_step import eval_step as eval_step
from funpipe._api.explain import Explanation as Explanation
from funpipe._api.explain import explain as explain
from funpipe._api.hvp import ggn_vp as ggn_vp
from funpipe._api.hvp import hvp as hvp
from funpipe._api.jvp import jvp as jvp
from funpipe._api.jvp import linearize as linearize
from funpipe._api.private_step import PrivateStep as PrivateStep
from funpipe._api.private_step import private_step as private_step
from funpipe._api.train_step import TrainStep as TrainStep
from funpipe._api.train_step import train_step as train_step
from funpipe._api.value_and_grad import value_and_grad as value_and_grad
