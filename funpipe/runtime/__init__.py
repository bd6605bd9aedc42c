"""Running compiled programs: the mesh of processes, the transports between them, launching, and checkpoints."""

from funpipe.runtime import checkpoint as checkpoint
from funpipe.runtime.compiled_step import CompiledStep as CompiledStep
from funpipe.runtime.compiled_step import compile_step as compile_step
from funpipe.runtime.everywhere import Job as Job
from funpipe.runtime.everywhere import compile_everywhere as compile_everywhere
from funpipe.runtime.launch import launch as launch
from funpipe.runtime.leaves_of_state import fill as fill
from funpipe.runtime.leaves_of_state import initial_slots as initial_slots
from funpipe.runtime.mesh import Mesh as Mesh
from funpipe.runtime.mesh import mesh as mesh
from funpipe.runtime.mesh import mesh_of as mesh_of
from funpipe.runtime.shards import shard as shard
from funpipe.runtime.shards import unshard as unshard
from funpipe.runtime.state import State as State
from funpipe.runtime.together import breaking as breaking
from funpipe.runtime.together import transport_of as transport_of
from funpipe.runtime.transports import Distributed as Distributed
from funpipe.runtime.transports import InProcess as InProcess
