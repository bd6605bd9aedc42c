"""Generated code, kept on disk: what one process has written, no other writes again, now or later."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO


@dataclass(frozen=True)
class Store:
    """A folder of texts by key, shared by the processes of a machine.

    Args:
        folder: where they are; made when the first is written.

    Example:
        >>> import tempfile
        >>> store = Store(Path(tempfile.mkdtemp()))
        >>> with store.claimed("k") as mine:
        ...     store.put("k", "text")
        >>> mine, store.get("k"), store.get("other")
        (True, 'text', None)
    """

    folder: Path

    def get(self, key: str) -> str | None:
        """A text; None if nobody has written it yet, or if the file is not as `put` left it, so that it is replaced."""
        try:
            seal, _, text = self._path(key).read_text(encoding="utf-8", errors="replace").partition("\n")
        except OSError:
            return None
        return text if seal == _seal(text) else None

    def put(self, key: str, text: str) -> None:
        """Writes a text; readers see all of it or nothing. Where the folder cannot be written, nothing is kept."""
        part = self._path(key).with_suffix(f".{os.getpid()}.part")
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_text(f"{_seal(text)}\n{text}", encoding="utf-8")
            part.replace(self._path(key))

    @contextmanager
    def claimed(self, key: str) -> Iterator[bool]:
        """Claims a key; while open, no other process gets it. The claim ends with the process, however that ends.

        Yields:
            Whether it is claimed: False if another process has it. Where the folder cannot be written, each process
            claims for itself.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = open(self.folder / f"{key}.lock", "w")
        except OSError:
            yield True
            return
        with file:
            if not _locked(file):
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: a forked process may hold it open

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.py"


def _seal(text: str) -> str:
    """The first line of a file: after a crash of the machine a file may be there without its end."""
    return f"# {hashlib.sha256(text.encode()).hexdigest()}"


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
