"""How tensors travel between the ranks of a pipeline."""

from funpipe.runtime.transports.distributed import Distributed as Distributed
from funpipe.runtime.transports.inprocess import Endpoint as Endpoint
from funpipe.runtime.transports.inprocess import InProcess as InProcess
