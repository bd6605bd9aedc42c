"""`Attempt`: one way to trace that was tried, and what came of it."""

from dataclasses import dataclass
from typing import Literal

Way = Literal["auto", "functional", "export", "modules"]
"""What a user asks for; `"auto"` is all of them, in this order."""

WAYS: tuple[Way, ...] = ("auto", "functional", "export", "modules")


@dataclass(frozen=True)
class Attempt:
    """A way to trace that was tried.

    Args:
        way: `"functional"`, `"export"`, `"export, strict"` or `"modules"`.
        module: the dotted path of the module that it was tried for; None: the whole function.
        why: the error that it ended with; None if it worked.
        source: the user's line that it failed at, as `"file:line: text"`; None if unknown.
    """

    way: str
    module: str | None = None
    why: str | None = None
    source: str | None = None

    def as_text(self) -> str:
        """One line; of a long text of torch's the beginning."""
        of = "" if self.module is None else f" of {self.module or 'the model'}"
        return f"{self.way}{of}: {'works' if self.why is None else _beginning(self.why)}"


def _beginning(text: str, most: int = 400) -> str:
    return text if len(text) <= most else f"{text[:most].rpartition(' ')[0]} …"
