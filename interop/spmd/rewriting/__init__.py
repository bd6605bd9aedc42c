"""What the passes of this layer share: a graph module as a `Graph` and back, blocks of nodes, moves, records."""
