"""Chains of functions that are traced one by one, and the same functions with eager autograd, in float64."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

import funpipe as fp
from funpipe.passes import optimize
from funpipe.programs import Form, Outline, Programs
from funpipe.stages import Piece, link, readers
from funpipe.tracing import Leaf, Part

SIZE = 4
COUNT = 2
"""Microbatches."""

Named = dict[str, Tensor]


def numbers(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def weights(*names: str, dtype: torch.dtype = torch.float64) -> Named:
    return {n: numbers(seed, dtype).requires_grad_() for seed, n in enumerate(names)}


@dataclass
class Link:
    """One stage: inputs that come from no other are of the batch. The last one returns its "loss"."""

    function: Callable[[Named, Named, Named], tuple[Named, Named]]
    inputs: dict[str, tuple[int, str] | None]
    params: Named
    buffers: Named = field(default_factory=dict)
    wants_gradient: bool = False


@dataclass
class Chain:
    """Stages in their order."""

    links: list[Link]

    @property
    def wires(self) -> dict[tuple[int, str], tuple[int, str]]:
        return {(i, n): source for i, one in enumerate(self.links) for n, source in one.inputs.items() if source}

    def batch(self, stage: int, name: str, index: int) -> Tensor:
        seed = 1000 * (stage + 1) + 10 * sorted(self.links[stage].inputs).index(name) + index
        return numbers(seed).requires_grad_(self.links[stage].wants_gradient)

    def programs(self, schedule: str) -> Programs:
        pieces = self._pieces(schedule.startswith("zb"))
        linked = zip(link(pieces, self.wires), pieces, strict=True)
        stages = [_with_results(stage, piece, piece is pieces[-1]) for stage, piece in linked]
        outline = Outline.of_pieces(pieces, stages)
        table = fp.schedules.get(schedule)().table(len(pieces), COUNT)
        form = Form(loose_params=True, sum_gradients=True, split_batch=False)
        dims = dict.fromkeys(outline.batch)
        return optimize(fp.programs.lower(outline, tuple(stages), table, batch_dims=dims, form=form))

    def _pieces(self, split: bool) -> list[Piece]:
        pieces = []
        for i, part in enumerate(self._parts()):
            waiting = [n for stage, n in self.wires if stage == i]
            pieces.append(Piece.of(i, part.trace(readers(self.wires, i)), split=split, waiting=waiting))
        return pieces

    def _parts(self) -> list[Part]:
        parts: list[Part] = []
        for i, one in enumerate(self.links):
            inputs = {
                n: parts[s[0]].outputs()[s[1]] if s else Leaf.of(self.batch(i, n, 0)) for n, s in one.inputs.items()
            }
            params, buffers = ({n: Leaf.of(t) for n, t in found.items()} for found in (one.params, one.buffers))
            loss = "loss" if one is self.links[-1] else None
            parts.append(Part(one.function, params, buffers, inputs, loss=loss, random=True))
        return parts

    def inputs(self, programs: Programs) -> list[Named]:
        return [{n: self._value(n) for n in p.inputs} for p in programs.programs]

    def _value(self, name: str) -> Tensor:
        kind, _, rest = name.partition(".")
        if kind == "step":
            return torch.tensor(0)
        stage, _, leaf = rest.partition(".")
        if kind == "batch":
            leaf, _, index = leaf.rpartition("@")
            return self.batch(int(stage), leaf, int(index)).detach()
        one = self.links[int(stage)]
        return {"leaf": one.params, "buffer": one.buffers}[kind][leaf].detach().clone()

    def eager(self) -> Named:
        """Loss, outputs of the last stage, gradients and new buffers, by the names that programs give them."""
        buffers = [dict(one.buffers) for one in self.links]
        given = {
            (i, n, k): self.batch(i, n, k)
            for i, one in enumerate(self.links)
            for n, s in one.inputs.items()
            for k in range(COUNT)
            if s is None
        }
        results: Named = {}
        for k in range(COUNT):
            outputs: list[Named] = []
            for i, one in enumerate(self.links):
                taken = {n: outputs[s[0]][s[1]] if s else given[i, n, k] for n, s in one.inputs.items()}
                made, buffers[i] = one.function(one.params, buffers[i], taken)
                outputs.append(made)
            results |= {f"{len(self.links) - 1}.{n}@{k}": t for n, t in outputs[-1].items()}
        loss = sum(results[f"{len(self.links) - 1}.loss@{k}"] for k in range(COUNT))
        leaves = {f"grad.{i}.{n}": p for i, one in enumerate(self.links) for n, p in one.params.items()}
        leaves |= {f"{i}.gradient.{n}@{k}": x for (i, n, k), x in given.items()}
        leaves = {n: leaf for n, leaf in leaves.items() if leaf.requires_grad}
        found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        results |= {f"buffer.{i}.{n}": t for i, new in enumerate(buffers) for n, t in new.items()}
        return {n: t.detach() for n, t in (results | dict(zip(leaves, found, strict=True))).items()}

    def found(self, programs: Programs, results: list[Named]) -> Named:
        """The same of what the ranks returned; a gradient that nobody made is zero."""
        named = {n: t for one in results for n, t in one.items()}
        slots = ((f"grad.{b.name}", slot) for b in programs.layout.buckets for slot in b.slots)
        return named | {f"grad.{slot.leaf}": slot.view(named[bucket]) for bucket, slot in slots}


def _with_results(stage, piece, last):
    outputs = {f"{stage.index}.{n}": value for n, value in piece.outputs.items() if last}
    gradients = {f"{stage.index}.gradient.{n}": value for n, value in piece.gradients.items()}
    return replace(stage, results=stage.results | outputs | gradients)


def interpreted(programs: Programs, inputs: list[Named]) -> list[Named]:
    [values] = fp.programs.interpret(programs, [inputs])
    return [{n: v[name] for n, name in p.outputs.items()} for p, v in zip(programs.programs, values, strict=True)]


def check(chain: Chain, schedule: str = "gpipe", run=interpreted) -> None:
    """Raises unless all of it is as with eager autograd."""
    programs = chain.programs(schedule)
    found = chain.found(programs, run(programs, chain.inputs(programs)))
    for name, wanted in chain.eager().items():
        if name in found or wanted.any() and not name.startswith("buffer."):
            torch.testing.assert_close(found[name], wanted, rtol=1e-6, atol=1e-8, msg=lambda s, n=name: f"{n}: {s}")
