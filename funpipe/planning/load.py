"""What the stages of a cut take: the times of `stage_costs`, and bytes for one microbatch and for a step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from funpipe._typing import TensorType
from funpipe.planning.region_costs import RegionCosts
from funpipe.planning.working import working_bytes
from funpipe.stages import Costs, Stage, split_backward, stage_costs
from funpipe.stages.stage import Region
from funpipe.tracing import Traced


@dataclass(frozen=True)
class Load:
    """What one stage takes. Times in seconds and activations are those of one microbatch.

    Args:
        F: time of the forward.
        B: time of the whole backward.
        I: time of the gradient of what the stage receives.
        W: time of the gradients of its parameters.
        params: bytes of the leaves that the stage holds.
        owned: bytes of the trained leaves that live here, and of their gradients.
        slots: bytes of what the optimizer keeps of these.
        tied: bytes of trained leaves that live on another stage.
        saved: bytes held from the forward to the backward.
        for_weights: of these and of what I makes, the bytes that are held from I to W.
        working: the most bytes that a region of the stage makes beside that.
        forward: bytes that it receives from earlier stages.
        backward: bytes that it receives from later stages.
    """

    F: float
    B: float
    I: float
    W: float
    params: float
    owned: float
    slots: float
    tied: float
    saved: float
    for_weights: float
    working: float
    forward: float
    backward: float

    def plus(self, layer: "Load", times: int) -> "Load":
        """This stage and `times` times what a layer adds to one."""
        return Load(*(mine + times * more for mine, more in zip(numbers(self), numbers(layer), strict=True)))

    def minus(self, other: "Load") -> "Load":
        """What this stage takes more than another."""
        return self.plus(other, -1)


def numbers(load: Load) -> tuple[float, ...]:
    """The values of the fields, in order."""
    return tuple(getattr(load, f.name) for f in fields(load))


def loads(traced: Traced, stages: tuple[Stage, ...], costs: Costs, slots: Callable[[str], float]) -> tuple[Load, ...]:
    """The load of each stage of a partition.

    Args:
        traced: the graph of one microbatch.
        stages: as `partition` or `rematerialise` gives them.
        costs: the time of a node.
        slots: the bytes of optimizer state of a parameter, by its name.
    """
    measured = isinstance(costs, RegionCosts)
    found = costs.of_stages(traced, stages) if measured else stage_costs(stages, costs)
    types = _types(stages)
    split = split_backward(stages)
    trained = {n for s in stages for n in s.owned}
    return tuple(
        Load(
            F=found.F[i],
            B=found.B[i],
            I=found.I[i],
            W=found.W[i],
            params=found.held[i],
            owned=found.owned[i],
            slots=sum(slots(n) for n in stage.owned),
            tied=sum(types[n].nbytes for n in stage.params if n in trained and n not in stage.owned),
            saved=found.saved[i],
            for_weights=_for_weights(split[i]),
            working=_working(stage),
            forward=found.received(i, forward=True),
            backward=found.received(i, forward=False),
        )
        for i, stage in enumerate(stages)
    )


def _types(stages: Sequence[Stage]) -> dict[str, TensorType]:
    """The types of the parameters that are read, by name."""
    found = {n: t for s in stages for r in s.regions for n, t in r.types.items()}
    return {n.removeprefix("param."): t for n, t in found.items() if n.startswith("param.")}


def _working(stage: Stage) -> int:
    """The bytes that a region makes at its peak; what a forward leaves for the backward is counted as saved."""
    left = set(() if stage.B is None else stage.B.inputs) & set(stage.F.outputs) - set(stage.results.values())
    forward = working_bytes(stage.F) - sum(stage.F.types[n].nbytes for n in left)
    return max(forward, 0 if stage.B is None else working_bytes(stage.B))


def _for_weights(stage: Stage) -> int:
    """The bytes that W reads: what the forward or I made, or another stage sent."""
    W: Region | None = stage.W
    return 0 if W is None else sum(W.types[n].nbytes for n in W.inputs if "." not in n)
