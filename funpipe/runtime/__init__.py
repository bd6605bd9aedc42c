"""Running compiled programs: the mesh of processes, the transports between them, launching, and checkpoints."""

from funpipe.runtime import checkpoint as checkpoint
from funpipe.runtime.launch import launch as launch
from funpipe.runtime.mesh import Mesh as Mesh
from funpipe.runtime.mesh import mesh as mesh
from funpipe.runtime.state import State as State
from funpipe.runtime.transports import Distributed as Distributed
from funpipe.runtime.transports import InProcess as InProcess
