"""Where a node comes from: the module path and the user's source line, noted while the function runs."""

import linecache
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.fx.traceback import annotate, preserve_node_meta
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

_PACKAGES = tuple(str(Path(p).parent) for p in (torch.__file__, __file__.replace("/tracing/", "/")))
"""Frames below these folders (torch and funpipe) are not the user's."""


_line: ContextVar[str | None] = ContextVar("line", default=None)


@contextmanager
def at_line(line: str | None) -> Iterator[None]:
    """While open, nodes come from this line, whoever calls; None: from the caller's.

    Args:
        line: as `"file:line"`.
    """
    token = _line.set(line)
    try:
        yield
    finally:
        _line.reset(token)


def is_users(filename: str) -> bool:
    """Whether a frame of this file is the user's own code."""
    return not filename.startswith((*_PACKAGES, "<")) or filename.startswith("<ipython")


def user_line_of(error: BaseException) -> str | None:
    """The innermost line of the user's own code in an error's traceback, as `"file:line: text"`."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if is_users(f.filename)]
    return f"{frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else None


def user_line() -> str | None:
    """The innermost line of the user's own code that is running, as `"file:line: text"`."""
    at = _caller()
    if at is None:
        return None
    file, number = at.rsplit(":", 1)
    return f"{at}: {linecache.getline(file, int(number)).strip()}"


class _Lines(TorchFunctionMode):
    """Notes the user's line on every node that a torch function makes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        line = _line.get() or _caller()
        if line is None:
            return func(*args, **(kwargs or {}))
        with annotate({"source": line}):
            return func(*args, **(kwargs or {}))


def _caller() -> str | None:
    """The innermost frame of the user's that is running, as `"file:line"`."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else None


class _Paths:
    """The dotted path of the module that is running; a module that nobody contains is a root, whose path is ``""``."""

    def __init__(self) -> None:
        self.called: dict[str, None] = {}
        self._names: list[dict[torch.nn.Module, str]] = []
        self._open: list[tuple[torch.nn.Module, ExitStack]] = []

    def enter(self, module: torch.nn.Module, _args: Any) -> None:
        if not self._names or module not in self._names[-1]:
            self._names.append({m: name for name, m in module.named_modules()})
        else:
            self._names.append(self._names[-1])
        path = self._names[-1][module]
        self.called.setdefault(path)
        stack = ExitStack()
        stack.enter_context(annotate({"path": path}))
        self._open.append((module, stack))

    def leave(self, module: torch.nn.Module, _args: Any, _out: Any) -> None:
        # A forward that raised leaves its entries above ours: they are closed with it.
        while self._open:
            top, stack = self._open.pop()
            self._names.pop()
            stack.close()
            if top is module:
                return


@contextmanager
def noting_where() -> Iterator[_Paths]:
    """While open, nodes made by a tracer carry `custom["path"]` and `custom["source"]`; gives the paths called."""
    paths = _Paths()
    before = register_module_forward_pre_hook(paths.enter)
    after = register_module_forward_hook(paths.leave, always_call=True)
    try:
        with preserve_node_meta(), _Lines():
            yield paths
    finally:
        before.remove()
        after.remove()
