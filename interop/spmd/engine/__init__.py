"""What `compile` runs: finds the state of a training step, traces it, calls it, and writes back what it returns."""

from funpipe.interop.spmd.engine.arguments import Arguments as Arguments
from funpipe.interop.spmd.engine.calls import Calls as Calls
from funpipe.interop.spmd.engine.compiled import Compiled as Compiled
from funpipe.interop.spmd.engine.making import Options as Options
from funpipe.interop.spmd.engine.stateless import stateless_func as stateless_func
