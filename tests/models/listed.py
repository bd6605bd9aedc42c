"""The whole list: real models and plain ones, by name."""

from tests.models.audio import AUDIO
from tests.models.entry import Entry
from tests.models.hard import HARD
from tests.models.plain import PLAIN
from tests.models.text import TEXT
from tests.models.vision import VISION

LISTED = (*TEXT, *VISION, *AUDIO)
"""The 28 architectures that torch's own front end was measured with."""

ENTRIES: tuple[Entry, ...] = (*LISTED, *HARD, *PLAIN)


def entry(name: str) -> Entry:
    """The model of this name."""
    return next(e for e in ENTRIES if e.name == name)
