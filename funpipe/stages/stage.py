"""`Region` and `Stage`: the values that partitioning a graph gives."""

from dataclasses import dataclass
from typing import Literal

from torch import fx

from funpipe._typing import TensorType

Kind = Literal["F", "B", "I", "W"]


@dataclass(frozen=True, eq=False, repr=False)
class Region:
    """A part of the graph that runs as one piece: the forward or the backward of a stage, for one microbatch.

    Args:
        kind: F (forward), B (whole backward), I (gradient of the inputs) or W (gradient of the weights).
        stage: the index of the stage.
        module: the graph; flat tensors in and a tuple of tensors out, no two of which share memory.
        inputs: the name of each input: `"param.NAME"`, `"buffer.NAME"`, `"batch.NAME"`, `"const.NAME"` or a value.
        outputs: the name of each output value.
        types: the type of every input and output, by name.
    """

    kind: Kind
    stage: int
    module: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: dict[str, TensorType]

    @property
    def name(self) -> str:
        """The region's name, such as `F0`."""
        return f"{self.kind}{self.stage}"

    def __repr__(self) -> str:
        return f"Region({self.name}, {len(self.inputs)} inputs, {len(self.outputs)} outputs)"

    def as_text(self) -> str:
        """The signature and the operations."""
        inputs = ", ".join(f"{n}: {self.types[n]}" for n in self.inputs)
        outputs = ", ".join(f"{n}: {self.types[n]}" for n in self.outputs)
        return "\n".join([f"{self.name}({inputs})", *self.operations(), f"  -> {outputs}"])

    def operations(self) -> tuple[str, ...]:
        """The operations, a line each."""
        nodes = [n for n in self.module.graph.nodes if n.op == "call_function"]
        return tuple(f"  {n.name} = {n.target}({', '.join(map(str, n.args))})" for n in nodes)


@dataclass(frozen=True, eq=False, repr=False)
class Stage:
    """A contiguous part of the model.

    Args:
        index: its position along the pipeline.
        F: the forward region.
        B: the backward region; None if nothing here is differentiated.
        params: the parameters that its regions read, in tree order.
        owned: those of its trained parameters whose optimizer state lives here (a tied leaf: the first user).
        results: the value of each of the loss function's outputs that is made here.
        terms: for each leaf with a gradient here, the places (their index among all places, and the value in B).
        I: the part of the backward that other stages wait for; None unless it is split, or if none waits.
        W: the rest of the backward; None unless it is split, or if nothing is accumulated here.
    """

    index: int
    F: Region
    B: Region | None
    params: tuple[str, ...]
    owned: tuple[str, ...]
    results: dict[str, str]
    terms: dict[str, tuple[tuple[int, str], ...]]
    I: Region | None = None
    W: Region | None = None

    @property
    def regions(self) -> tuple[Region, ...]:
        """The stage's regions, forward first: I and W, too, where the backward is split."""
        return tuple(region for region in (self.F, self.B, self.I, self.W) if region is not None)

    def region(self, kind: Kind) -> Region | None:
        """The region of a kind; None if the stage has none."""
        return {"F": self.F, "B": self.B, "I": self.I, "W": self.W}[kind]

    def terms_in(self, kind: Kind) -> dict[str, tuple[tuple[int, str], ...]]:
        """The places with the values of B or W: what I gives to others already, W gives again under another name."""
        sent = set(self.I.outputs if kind == "W" and self.I is not None else ())
        return {
            leaf: tuple((k, again(value, self.index) if value in sent else value) for k, value in places)
            for leaf, places in self.terms.items()
        }

    def __repr__(self) -> str:
        return f"Stage({self.index}, {len(self.params)} parameters, {', '.join(map(repr, self.regions))})"

    def as_text(self) -> str:
        """The stage's parameters and regions."""
        head = f"stage {self.index}: {len(self.params)} parameters, owns {len(self.owned)}"
        return "\n".join([head, *(r.as_text() for r in self.regions)])


def again(value: str, stage: int) -> str:
    """The name in W of a gradient of a leaf that I gives to other stages."""
    return f"{value}_of_W{stage}"
