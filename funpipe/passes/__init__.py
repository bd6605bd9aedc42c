"""Passes: programs to programs that compute the same, in the order of `default_passes`."""

from funpipe.passes.early_receives import early_receives as early_receives
from funpipe.passes.free_values import free_values as free_values
from funpipe.passes.optimize import Pass as Pass
from funpipe.passes.optimize import default_passes as default_passes
from funpipe.passes.optimize import optimize as optimize
from funpipe.passes.release_sends import release_sends as release_sends
