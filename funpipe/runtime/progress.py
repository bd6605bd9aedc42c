"""What a long compile shows: one line that tells what is being compiled, and how many are left."""

import logging
import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

_LOGGER = logging.getLogger("funpipe")


@dataclass
class Progress:
    """Writes a line once a compile takes long; a terminal's line is written over, and cleared at the end.

    Args:
        rank: the global rank; only rank 0 writes to the terminal, the others log at level INFO to `"funpipe"`.
        stream: where to write.
        patience: seconds before the first line.

    Example:
        >>> import io
        >>> stream = io.StringIO()
        >>> progress = Progress(0, stream, patience=0.0)
        >>> progress("F0", 1, 4)
        >>> progress.end()
        >>> stream.getvalue()
        'funpipe: compiling F0, 1 of 4 graphs done\\n'
    """

    rank: int
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    patience: float = 2.0
    started: float = field(default_factory=time.monotonic)
    shown: str = ""

    def __call__(self, name: str, done: int, count: int) -> None:
        """Is told before each graph is compiled."""
        text = f"funpipe: compiling {name}, {done} of {count} graphs done"
        if text == self.shown or time.monotonic() - self.started < self.patience:
            return
        if self.rank != 0:
            _LOGGER.info(text)
        elif self.stream.isatty():
            self.stream.write(f"\r{text:<{len(self.shown)}}")
            self.stream.flush()
        else:
            self.stream.write(f"{text}\n")
        self.shown = text

    def end(self) -> None:
        """Clears the terminal's line."""
        if self.rank == 0 and self.shown and self.stream.isatty():
            self.stream.write("\r" + " " * len(self.shown) + "\r")
            self.stream.flush()
