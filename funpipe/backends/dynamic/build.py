"""Compiles pieces once for all sizes, and finds them again at the next size."""

import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from torch import fx

from funpipe._errors import CompileError, FunpipeWarning
from funpipe._typing import TensorType
from funpipe.backends.compiled import Report
from funpipe.backends.dynamic.any_size import AnySize
from funpipe.backends.dynamic.holds import holds, is_for_many_sizes
from funpipe.backends.dynamic.relation import Relation
from funpipe.backends.dynamic.skeleton import skeleton
from funpipe.backends.dynamic.template import Template, template
from funpipe.backends.inductor import Built, Source, build, settings_text
from funpipe.backends.rewrites import rewritten


class Piece(Protocol):
    """A part of a graph that is compiled by itself."""

    @property
    def module(self) -> fx.GraphModule:
        """Flat tensors in, a tuple of tensors out."""
        ...

    @property
    def types(self) -> tuple[TensorType, ...]:
        """Of its inputs."""
        ...


@dataclass(frozen=True, eq=False)
class _Known:
    """A compiled piece, and the sizes that it is for."""

    template: Template
    built: Built

    def fits(self, integers: Sequence[int], types: Sequence[TensorType]) -> bool:
        made = self.template
        if made.is_fixed:
            return made.fits(integers, 0)
        size = types[made.argument].shape[made.dim]
        return made.fits(integers, size) and holds(self.built.code, size)


_KNOWN: dict[tuple[str, str], deque[_Known]] = defaultdict(partial(deque, maxlen=64))
"""What this process has compiled for steps of many sizes, by skeleton and settings of the compiler; the last ones."""


Parts = Mapping[str, Sequence[Piece]]
"""The pieces of each graph of a step, by its name."""


def built_for_sizes(
    parts: Parts, others: Callable[[], Iterator[Parts]], report: Report
) -> dict[str, tuple[Built, ...]]:
    """The compiled pieces of graphs, each for every size if it can be.

    Args:
        parts: the pieces.
        others: gives the pieces at other sizes; asked where a piece is not known.
        report: is told before each piece that is compiled.

    Returns:
        The compiled pieces of each graph, in order.

    Raises:
        CompileError: torch cannot compile a piece.
    """
    looked = {name: [_Looked.up(name, i, part) for i, part in enumerate(group)] for name, group in parts.items()}
    pieces = [piece for group in looked.values() for piece in group]
    found = {piece: built for piece in pieces if (built := piece.known()) is not None}
    missing = [piece for piece in pieces if piece not in found]
    if missing:
        found |= _compiled(missing, _sources(missing, others()), report)
    return {name: tuple(found[piece] for piece in group) for name, group in looked.items()}


def _compiled(missing: Sequence["_Looked"], sources: Sequence[Source], report: Report) -> dict["_Looked", Built]:
    """Compiles pieces, so that each runs at its size.

    Code is shared by all runs, and that of one that began at another size may have conditions that this size does not
    meet; then it is compiled from this size on, and where the conditions cannot be read, for this size alone.
    """
    found: dict[_Looked, Built] = {}
    left = dict(zip(missing, sources, strict=True))
    while left:
        left, made = _built(left, report)
        pairs = zip(left.items(), made, strict=True)
        found |= {piece: built for (piece, source), built in pairs if piece.keep(source, built)}
        left = {piece: piece.next(source) for piece, source in left.items() if piece not in found}
    pairs = zip(missing, sources, strict=True)
    alone = [p for p, source in pairs if isinstance(source, AnySize) and not is_for_many_sizes(found[p].code)]
    if alone:
        _warn(alone)
    return found


def _built(wanted: dict["_Looked", Source], report: Report) -> tuple[dict["_Looked", Source], list[Built]]:
    """Compiles all that is wanted; what the compiler cannot write for every size is wanted for its own."""
    try:
        return wanted, build(list(wanted.values()), report)
    except CompileError:
        if not any(isinstance(source, AnySize) for source in wanted.values()):
            raise
    wanted = {piece: _that_compiles(piece, source, report) for piece, source in wanted.items()}
    return wanted, build(list(wanted.values()), report)


def _that_compiles(piece: "_Looked", source: Source, report: Report) -> Source:
    try:
        build([source], report)
    except CompileError:
        return piece.fixed()
    return source


def _sources(missing: Sequence["_Looked"], others: Iterator[Parts]) -> list[Source]:
    """What to compile for each piece: the first other size that shows how it follows the size decides."""
    found: dict[int, Source] = {}
    for other in others:
        for i, piece in enumerate(missing):
            if i not in found and (source := piece.source(other)) is not None:
                found[i] = source
        if len(found) == len(missing):
            break
    left = [piece for i, piece in enumerate(missing) if i not in found]
    if left:
        _warn(left)
    return [found[i] if i in found else piece.fixed() for i, piece in enumerate(missing)]


@dataclass(frozen=True, eq=False)
class _Looked:
    """A piece of a graph, rewritten, and what it is known by."""

    name: str
    index: int
    part: Piece
    module: fx.GraphModule
    text: str
    integers: tuple[int, ...]
    settings: str

    @staticmethod
    def up(name: str, index: int, part: Piece) -> "_Looked":
        module = rewritten(part.module, part.types)
        return _Looked(name, index, part, module, *skeleton(module.graph, part.types), settings_text())

    def known(self) -> Built | None:
        """What is compiled for it, if anything is."""
        candidates = _KNOWN[self.text, self.settings]
        return next((k.built for k in candidates if k.fits(self.integers, self.part.types)), None)

    def fixed(self) -> Source:
        """It, to be compiled for its size alone."""
        return Source(self.name, self.part.module, self.part.types)

    def source(self, others: Parts) -> Source | None:
        """What to compile, as the same piece at another size shows; None if that shows nothing."""
        group = others.get(self.name, ())
        if self.index >= len(group):
            return None
        other = group[self.index]
        there = rewritten(other.module, other.types)
        if skeleton(there.graph, other.types) == (self.text, self.integers):
            return self.fixed()
        made = template((self.module.graph, self.part.types), (there.graph, other.types))
        return None if made is None else AnySize(self.name, self.module, self.part.types, made)

    def next(self, source: Source) -> Source:
        """What to compile after code that does not run at its size."""
        if isinstance(source, AnySize) and not source.first_size:
            return replace(source, first_size=True)
        return self.fixed()

    def keep(self, source: Source, built: Built) -> bool:
        """Keeps what was compiled; whether it runs at its size."""
        fixed = tuple(Relation(offset=n) for n in self.integers)
        made = source.template if isinstance(source, AnySize) else Template(self.text, 0, 0, fixed)
        known = _Known(made, built)
        if self.known() is None:
            _KNOWN[self.text, self.settings].append(known)
        return known.fits(self.integers, self.part.types)


def _warn(left: Sequence[_Looked]) -> None:
    names = ", ".join(dict.fromkeys(piece.name for piece in left))
    warnings.warn(
        f"dynamic: {len(left)} graphs in {names} are compiled for the sizes of this batch alone: what they compute "
        "does not follow the size in a simple way. Pad batches to a few sizes (fp.microbatch.pad_to).",
        FunpipeWarning,
        stacklevel=2,
    )
