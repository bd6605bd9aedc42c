"""What a region's graph becomes before it is compiled: the same computation in operators that run faster here."""

from funpipe.backends.rewrites.rewrite import rewritten as rewritten
