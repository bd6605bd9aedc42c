"""`Piece`: a stage whose part of the model was traced by itself, named so that no other stage's values are meant.

of the part          of the pipeline
param.w              param.2.w          leaves: the stage's index before their name
addmm_3              addmm_3_s2         values: behind it
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from funpipe._typing import TensorType
from funpipe.stages.partition import partition
from funpipe.stages.split_backward import split_backward
from funpipe.stages.stage import Region, Stage
from funpipe.tracing.part import INPUT
from funpipe.tracing.traced import Traced


@dataclass(frozen=True, eq=False)
class Piece:
    """A stage and the types of its leaves.

    Args:
        stage: with names of its own; `link` connects it to others.
        params, buffers, batch, consts: the types of its leaves, by name.
        outputs: the value of each output.
        gradients: the value of the gradient of each trained input.
    """

    stage: Stage
    params: dict[str, TensorType]
    buffers: dict[str, TensorType]
    batch: dict[str, TensorType]
    consts: dict[str, TensorType]
    outputs: dict[str, str]
    gradients: dict[str, str]

    @staticmethod
    def of(index: int, traced: Traced, *, split: bool = False, waiting: Iterable[str] = ()) -> "Piece":
        """Makes a stage of a traced part.

        Args:
            index: the stage's.
            traced: as `Part.trace` gives it.
            split: whether its backward is split into I and W.
            waiting: the inputs whose gradients other stages wait for.
        """
        (stage,) = partition(traced, ())
        given = {n.removeprefix(INPUT): places[0][1] for n, places in stage.terms.items() if n.startswith(INPUT)}
        if split:
            (stage,) = split_backward((stage,), {given[n] for n in waiting if n in given})
        names = _Names(index)
        consts = {n: TensorType.of(t) for n, t in traced.consts.items()}
        own = _renamed(stage, index, names)
        outputs = {n: names.value(v) for n, v in stage.results.items() if not n.startswith("buffer.")}
        gradients = {n: names.value(v) for n, v in given.items()}
        params, buffers, batch = (names.leaves(part) for part in (traced.params, traced.buffers, traced.batch))
        return Piece(own, params, buffers, batch, names.leaves(consts), outputs, gradients)


@dataclass(frozen=True)
class _Names:
    """The names of one stage.

    Args:
        index: of the stage.
    """

    index: int

    def value(self, name: str) -> str:
        """That of a value, or of a leaf with its kind."""
        kind, dot, leaf = name.partition(".")
        return f"{kind}.{self.index}.{leaf}" if dot else f"{name}_s{self.index}"

    def leaves(self, found: Mapping[str, TensorType]) -> dict[str, TensorType]:
        """Leaves by their new names."""
        return {f"{self.index}.{n}": kind for n, kind in found.items()}


def _renamed(stage: Stage, index: int, names: _Names) -> Stage:
    regions = {f"{r.kind}": named(replace(r, stage=index), names.value) for r in stage.regions}
    leaves = {n: places for n, places in stage.terms.items() if not n.startswith(INPUT)}
    return Stage(
        index=index,
        F=regions["F"],
        B=regions.get("B"),
        params=tuple(f"{index}.{n}" for n in stage.params),
        owned=tuple(f"{index}.{n}" for n in stage.owned),
        results={names.value(n): names.value(v) for n, v in stage.results.items() if n.startswith("buffer.")},
        terms={f"{index}.{n}": tuple((k, names.value(v)) for k, v in places) for n, places in leaves.items()},
        I=regions.get("I"),
        W=regions.get("W"),
    )


def named(region: Region, name: Callable[[str], str]) -> Region:
    """The same region with other names for its inputs and outputs.

    Args:
        region: the region.
        name: gives the new name of each.
    """
    return replace(
        region,
        inputs=tuple(name(n) for n in region.inputs),
        outputs=tuple(name(n) for n in region.outputs),
        types={name(n): kind for n, kind in region.types.items()},
    )
