"""What an optimizer was made from, as a value: for those that rewrite one, or ask whether two are the same."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """The name of an optimizer or transform and its settings.

    Args:
        kind: `"adamw"`, `"sgd"`, `"chain"`, ...
        values: the settings by name, in order; functions compare by identity.

    Example:
        >>> from funpipe.optim import adam
        >>> adam(0.1).settings == adam(0.1).settings
        True
        >>> adam(0.1).settings["lr"]
        0.1
    """

    kind: str
    values: tuple[tuple[str, Any], ...]

    @staticmethod
    def of(kind: str, **values: Any) -> "Settings":
        """Settings by name."""
        return Settings(kind, tuple(values.items()))

    def __getitem__(self, name: str) -> Any:
        return dict(self.values)[name]

    def get(self, name: str, default: Any = None) -> Any:
        """A setting, or a default where there is none of this name."""
        return dict(self.values).get(name, default)
