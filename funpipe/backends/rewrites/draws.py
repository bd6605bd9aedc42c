"""Draws, each one operator of a traced graph, as the integer operations that they are made of."""

from typing import Any

from funpipe.functional.random.draws import WRITTEN_OUT

REWRITES: dict[Any, Any] = dict(WRITTEN_OUT)
"""Operators, and what to trace in their place."""
