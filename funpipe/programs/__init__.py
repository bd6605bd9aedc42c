"""Programs: the instruction lists of all ranks, their verifier and their reference interpreter."""

from funpipe.programs.form import Form as Form
from funpipe.programs.graph_of import graph_of as graph_of
from funpipe.programs.interpret import interpret as interpret
from funpipe.programs.lower import lower as lower
from funpipe.programs.message import Message as Message
from funpipe.programs.outline import Outline as Outline
from funpipe.programs.program import Program as Program
from funpipe.programs.program import Programs as Programs
from funpipe.programs.text import parse as parse
from funpipe.programs.verify import Report as Report
from funpipe.programs.verify import verify as verify
