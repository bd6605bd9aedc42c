"""All ranks of all replicas with their state, which the reference interpreter moves on step by step."""

from collections.abc import Mapping

import torch
from torch import Tensor

from funpipe.optim import Optimizer
from funpipe.programs import Program, Programs, interpret

Named = Mapping[str, Tensor]


class World:
    """A training run in the interpreter.

    Args:
        programs: of all ranks.
        params: by name.
        optimizer: what the programs were lowered with.
        buffers: by name.
    """

    def __init__(
        self, programs: Programs, params: Named, optimizer: Optimizer | None = None, buffers: Named | None = None
    ) -> None:
        self.programs, self.optimizer = programs, optimizer
        leaves = {"leaf": params, "buffer": buffers or {}}
        row = [{n: _start(n, programs, leaves) for n in p.inputs if _is_state(n)} for p in programs.programs]
        self.state = [[{n: t.clone() for n, t in rank.items()} for rank in row] for _ in range(programs.mesh.dp)]
        self.steps = 0

    def step(self, batch: Named) -> dict[str, Tensor]:
        """One step on a global batch; the results of replica 0, by name."""
        inputs = [
            [
                rank | _rest(p, self.steps, _share(self.programs, batch, d))
                for p, rank in zip(self._all, row, strict=True)
            ]
            for d, row in enumerate(self.state)
        ]
        self.values = interpret(self.programs, inputs, self.optimizer)
        self.state = [[_after(p, v) for p, v in zip(self._all, row, strict=True)] for row in self.values]
        self.steps += 1
        return self.results(0)

    def results(self, replica: int) -> dict[str, Tensor]:
        """The results of the last step, of all ranks."""
        named = zip(self._all, self.values[replica], strict=True)
        return {name: values[value] for p, values in named for name, value in p.outputs.items()}

    def grads(self) -> dict[str, Tensor]:
        """The gradients of the last step of programs without an optimizer, by leaf."""
        results = self.results(0)
        return {s.leaf: s.view(results[f"grad.{b.name}"]) for b in self.programs.layout.buckets for s in b.slots}

    def copies(self, leaf: str) -> list[Tensor]:
        """All copies of a leaf, of all ranks and replicas."""
        found = [_leaf(self.programs, rank, leaf) for row in self.state for rank in row]
        return [copy for copy in found if copy is not None]

    def params(self) -> dict[str, Tensor]:
        """Every leaf."""
        leaves = {s.leaf for b in self.programs.layout.buckets for s in b.slots} | set(self.programs.layout.loose)
        return {leaf: self.copies(leaf)[0] for leaf in sorted(leaves)}

    @property
    def _all(self) -> tuple[Program, ...]:
        return self.programs.programs


def same_bits(one: Named, other: Named) -> bool:
    """Whether two dicts hold the same bits under the same names."""
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def _is_state(name: str) -> bool:
    return name.split(".")[0] in ("bucket", "slot", "leaf", "buffer")


def _start(name: str, programs: Programs, leaves: dict[str, Named]) -> Tensor:
    kind, _, rest = name.partition(".")
    if kind == "slot":
        return torch.zeros(programs.types[name].shape, dtype=programs.types[name].dtype)
    if kind != "bucket":
        return leaves[kind][rest].detach()
    bucket = next(b for b in programs.layout.buckets if b.name == rest)
    flat = torch.zeros(bucket.size, dtype=bucket.dtype)
    for slot in bucket.slots:
        slot.view(flat).copy_(leaves["leaf"][slot.leaf].detach())
    return flat


def _share(programs: Programs, batch: Named, replica: int) -> dict[str, Tensor]:
    """A replica's rows of the global batch."""
    return {n: t.chunk(programs.mesh.dp)[replica] if programs.batch_dims[n] == 0 else t for n, t in batch.items()}


def _rest(program: Program, steps: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    mine = {f"batch.{n}": t for n, t in batch.items() if f"batch.{n}" in program.inputs}
    return mine | {"step": torch.tensor(steps)}


def _after(program: Program, values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: values[program.outputs.get(n, n)] for n in program.inputs if _is_state(n)}


def _leaf(programs: Programs, rank: dict[str, Tensor], leaf: str) -> Tensor | None:
    home = programs.layout.home(leaf)
    if home is not None and f"bucket.{home[0].name}" in rank:
        return home[1].view(rank[f"bucket.{home[0].name}"])
    return rank.get(f"leaf.{leaf}")
