"""Graphs become machine code: each different one once, on this machine, by whichever process comes to it first."""

import hashlib
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from funpipe import _compat
from funpipe._errors import CompileError
from funpipe._typing import TensorType
from funpipe.backends.broken import remove_broken
from funpipe.backends.compiled import Report, silent
from funpipe.backends.failure import failure
from funpipe.backends.rewrites import rewritten
from funpipe.backends.store import Store
from funpipe.backends.structure import structure
from funpipe.functional import random

Boxed = Callable[[list[Tensor]], Sequence[Tensor]]
"""A function of a list of tensors, which it empties, so that it can free each of them as soon as it has been read."""

OPTIONS: dict[str, Any] = {
    "size_asserts": False,
    "alignment_asserts": False,
    "fx_graph_cache": False,
    "pattern_matcher": False,
}
"""Generated code checks no shapes again, the verifier and the engine have done so; what it is kept by is our own; and
a product and an addition stay apart, so that the addition becomes part of the kernel behind it."""

_BUILDERS = min(4, os.cpu_count() or 1)
"""Threads that wait for the C++ compiler."""

_WRITERS = (Path(__file__).parent, Path(random.__file__).parent)
"""Where the code is that graphs are rewritten by, and written out with."""

_POLL = 0.02
"""Seconds between two looks at what another process is writing."""


@dataclass(frozen=True, eq=False)
class Source:
    """A graph to be compiled.

    Args:
        name: what it is part of, such as `F0`, for messages.
        module: flat tensors in, a tuple of tensors out; may write to its inputs.
        types: of its inputs, in order.
    """

    name: str
    module: fx.GraphModule
    types: tuple[TensorType, ...]

    @cached_property
    def key(self) -> str:
        """The same for equal graphs on equal machines with equal software."""
        return self._key(settings_text())

    @property
    def text(self) -> str:
        """What is compiled."""
        return structure(self.module.graph, self.types)

    def write(self, options: dict[str, Any]) -> str:
        """Has the compiler write its code.

        Args:
            options: of the compiler.
        """
        return _compat.write_kernels(rewritten(self.module, self.types), self.types, options)

    def _key(self, settings: str) -> str:
        parts = [self.text, settings, _gpu(self.types)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


@dataclass(frozen=True, eq=False)
class Built:
    """A compiled graph.

    Args:
        call: runs it.
        code: what the compiler wrote, or had written earlier.
    """

    call: Boxed
    code: str


def build(sources: Sequence[Source], report: Report = silent) -> list[Built]:
    """Compiles graphs.

    Args:
        sources: the graphs; equal ones are compiled once. The processes of one machine share what they write: a graph
            that another one is at work on is left to it.
        report: is told before each graph.

    Returns:
        For each graph the compiled one; equal graphs have the same.

    Raises:
        CompileError: torch cannot compile one; its own error is the cause.
    """
    _compat.trust_the_processor()
    _compat.precompile_every_header()
    settings = settings_text()
    keys = [source._key(settings) for source in sources]
    unique: dict[str, Source] = {}
    for key, source in zip(keys, sources, strict=True):
        unique.setdefault(key, source)
    folder = _compat.compiler_cache()
    store = Store(Path(folder) / "funpipe") if folder else None
    # The C++ compiler runs beside what writes the next graph's code.
    pool = ThreadPoolExecutor(_BUILDERS, initializer=_same_gpu(sources))
    try:
        running = {k: (code, _submitted(pool, unique[k], code)) for k, code in _written(store, unique, report)}
        built = {key: _built(store, key, unique[key], *started) for key, started in running.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an error, or Ctrl-C, waits for no other graph
    return [built[key] for key in keys]


def _same_gpu(sources: Sequence[Source]) -> Callable[[], None] | None:
    """Makes the current GPU that of another thread too: there kernels are loaded onto it."""
    if not torch.cuda.is_available() or all(kind.device != "cuda" for source in sources for kind in source.types):
        return None
    return partial(torch.cuda.set_device, torch.cuda.current_device())


def _submitted(pool: ThreadPoolExecutor, source: Source, code: str) -> "Future[Boxed]":
    """Runs code in another thread, which sees what the user has set in the compiler's configuration for this one."""
    return pool.submit(copy_context().run, _run, source, code)


def _written(store: Store | None, unique: dict[str, Source], report: Report) -> Iterator[tuple[str, str]]:
    """The code of each graph: written by this process, by another one at the same time, or earlier."""
    waiting = list(unique)
    while waiting:
        for key in list(waiting):
            report(unique[key].name, len(unique) - len(waiting), len(unique))
            code = _write(unique[key]) if store is None else _shared(store, key, unique[key])
            if code is not None:
                waiting.remove(key)
                yield key, code
        if waiting:
            time.sleep(_POLL)


def _shared(store: Store, key: str, source: Source) -> str | None:
    """A graph's code; None while another process is writing it."""
    code = store.get(key)
    if code is None:
        with store.claimed(key) as mine:
            if mine and (code := store.get(key)) is None:
                code = _write(source)
                store.put(key, code)
    return code


def _write(source: Source) -> str:
    try:
        with torch.no_grad(), _compat.quiet_compile():
            return source.write(_options(source))
    except Exception as error:
        raise failure(f"region {source.name}", error) from error


def _options(source: Source) -> dict[str, Any]:
    """On a CPU the calls between kernels are C++ too: in Python they take as long as a small kernel."""
    return {**OPTIONS, "cpp_wrapper": all(kind.device == "cpu" for kind in source.types)}


def _built(store: Store | None, key: str, source: Source, code: str, running: Future[Boxed]) -> Built:
    """The compiled graph; a library that is broken, or stored code that does not run (any more), is made anew, once."""
    try:
        return Built(running.result(), code)
    except CompileError as error:
        if remove_broken(error.__cause__):
            return Built(_run(source, code), code)
        if store is None:
            raise
    code = _write(source)
    store.put(key, code)
    return Built(_run(source, code), code)


def _run(source: Source, code: str) -> Boxed:
    """Runs generated code, which waits for its kernels; gives the function that it defines."""
    names: dict[str, Any] = {"__name__": f"funpipe_{source.name}"}
    try:
        exec(compile(code, f"<funpipe {source.name}>", "exec"), names)
        return _compat.call_of(names)
    except Exception as error:
        raise failure(f"region {source.name}", error) from error


def settings_text() -> str:
    """What any graph's code may depend on; half a millisecond, so it is read once for all graphs of a step."""
    parts = [
        f"{_own_code()} torch {torch.__version__} {torch.version.git_version} {OPTIONS} {_compat.compiler_settings()}",
        f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} threads {torch.get_num_threads()}",
        f"{torch.get_default_dtype()} deterministic {torch.are_deterministic_algorithms_enabled()}",
    ]
    return "\n".join(parts)


def _gpu(types: Sequence[TensorType]) -> str:
    """The GPU that a graph's code is for: the current one, and its number, which the code holds."""
    on_gpu = torch.cuda.is_available() and any(kind.device == "cuda" for kind in types)
    return f"{torch.cuda.get_device_name()} {torch.cuda.current_device()}" if on_gpu else ""


@cache
def _own_code() -> str:
    """A hash of what rewrites graphs: code that an older version left is not taken for this one's."""
    files = sorted(file for folder in _WRITERS for file in folder.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
