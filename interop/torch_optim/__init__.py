"""Classes of `torch.optim` in a train step, and their state moved both ways."""

from funpipe.interop.torch_optim.schedulers import from_scheduler as from_scheduler
from funpipe.interop.torch_optim.state import from_torch_state as from_torch_state
from funpipe.interop.torch_optim.state import to_torch as to_torch
from funpipe.interop.torch_optim.translate import from_torch as from_torch
