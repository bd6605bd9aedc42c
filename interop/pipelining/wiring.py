"""Where the inputs of a stage come from."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Argument:
    """Where one positional input of a stage comes from.

    Args:
        stage: the stage that makes it; None: it is an argument of the whole model.
        index: which of the stage's outputs, counted over its tensors in tree order; of the model's arguments the
            position, or the keyword.
        name, position: what else a caller may give an argument of the model by, as far as it is known; two are equal
            without it.

    Example:
        >>> linear(2, 2)
        (Argument(stage=1, index=0), Argument(stage=1, index=1))
    """

    stage: int | None
    index: int | str
    name: str | None = field(default=None, compare=False, repr=False)
    position: int | None = field(default=None, compare=False, repr=False)

    @property
    def ways(self) -> tuple[int | str, ...]:
        """What a caller may give an argument of the model by; the first that he does counts.

        Example:
            >>> Argument(None, 1, name="y").ways
            ('y', 1)
        """
        return tuple(dict.fromkeys(way for way in (self.name, self.index, self.position) if way is not None))


def linear(stage: int, count: int) -> tuple[Argument, ...]:
    """The inputs of a stage that takes what the one before it returns; of the first one the model's arguments.

    Args:
        stage: its index.
        count: how many inputs it has.
    """
    before = stage - 1 if stage else None
    return tuple(Argument(before, index) for index in range(count))
