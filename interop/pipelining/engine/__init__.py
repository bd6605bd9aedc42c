"""What `step` and `eval` run: every rank traces its own stages, and funpipe's programs connect them."""

from funpipe.interop.pipelining.engine.call import Call as Call
from funpipe.interop.pipelining.engine.engine import Engine as Engine
from funpipe.interop.pipelining.engine.options import Options as Options
