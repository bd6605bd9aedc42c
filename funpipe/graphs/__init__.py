"""Graphs: a whole step as an immutable value, with what reads, checks, runs and compares it."""

from funpipe.graphs.check import check as check
from funpipe.graphs.dead import eliminate_dead as eliminate_dead
from funpipe.graphs.diff import diff as diff
from funpipe.graphs.from_fx import from_fx as from_fx
from funpipe.graphs.graph import Graph as Graph
from funpipe.graphs.interpret import interpret as interpret
from funpipe.graphs.node import Node as Node
from funpipe.graphs.node import Ref as Ref
from funpipe.graphs.node import map_refs as map_refs
from funpipe.graphs.node import refs_in as refs_in
from funpipe.graphs.order import sorted_stably as sorted_stably
from funpipe.graphs.parse import parse as parse
from funpipe.graphs.search import ancestors as ancestors
from funpipe.graphs.search import closure as closure
from funpipe.graphs.search import find as find
from funpipe.graphs.search import one as one
from funpipe.graphs.simulate import Ranks as Ranks
from funpipe.graphs.simulate import simulate as simulate
from funpipe.graphs.step import Step as Step
from funpipe.graphs.to_fx import to_fx as to_fx
