"""Leaves that get their values where they are kept: a module is built without memory, and how is noted."""

from funpipe.functional.deferred.init import init as init
from funpipe.functional.deferred.leaf import deferred as deferred
from funpipe.functional.deferred.leaf import is_deferred as is_deferred
from funpipe.functional.deferred.leaf import made as made
from funpipe.functional.deferred.leaf import materialise as materialise
from funpipe.functional.deferred.leaf import with_gradient as with_gradient
