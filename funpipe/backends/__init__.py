"""Backends: three ways to run the same program."""

from funpipe.backends.compiled import Executable as Executable
from funpipe.backends.compiled import Request as Request
from funpipe.backends.registry import BACKENDS as BACKENDS
from funpipe.backends.registry import compile as compile
from funpipe.backends.transport import Transport as Transport
