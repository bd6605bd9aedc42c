"""Writing down the graphs after every pass, once a user has asked for it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from funpipe.interop.spmd.graph_utils import dump_graphs_to_files

_folder: ContextVar[str] = ContextVar("folder", default="")


def enable_graph_optimization_dump(folder: str = "") -> None:
    """From here on every pass writes its graphs to `after_{pass}*.graph`.

    Args:
        folder: where to; a new temporary one by default.
    """
    _folder.set(folder or tempfile.mkdtemp())


@contextmanager
def dumping(folder: str) -> Iterator[None]:
    """While open, every pass writes its graphs to a folder; none does if its name is empty.

    Args:
        folder: where to.
    """
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def dump_after(name: str, gm: Any) -> None:
    """Writes a graph module down after a pass, if that is asked for.

    Args:
        name: of the pass.
        gm: a graph module; of one over several steps its three graphs are written.
    """
    if not _folder.get():
        return
    three = {part: getattr(gm, f"{part}_gm", None) for part in ("setup", "main", "cleanup")}
    graphs = {f"after_{name}_{part}_gm": found for part, found in three.items() if found is not None}
    dump_graphs_to_files(graphs or {f"after_{name}": gm}, _folder.get())
