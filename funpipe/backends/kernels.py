"""Regions as a compiled step calls them: buckets in, accumulators added inside, nothing shared between outputs.

A region of a `Program` reads single parameters and returns single gradients. Compiled, it takes whole buckets (so that
the step's outer graph stays small) and views its parameters inside; a backward takes its accumulators too and returns
the sums, so that no separate kernel adds them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import fx

from funpipe.programs.layout import Layout
from funpipe.stages.stage import Region

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Kernel:
    """A callable form of a region.

    Args:
        name: the region's name, with the accumulators' presence.
        module: flat tensors in, a tuple of tensors out.
        inputs: names of the inputs, as the region's, with `bucket.NAME` in place of the parameters in it, and the
            accumulators behind.
        outputs: names of the outputs; the accumulators' new values behind.
    """

    name: str
    module: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def kernel(
    region: Region, layout: Layout, held: frozenset[str], pairs: Sequence[tuple[str, str]], wanted: frozenset[str]
) -> Kernel:
    """Rewrites a region for a compiled step.

    Args:
        region: the region.
        layout: where the parameters live.
        held: the buckets that are on this rank.
        pairs: accumulators with the value that is added to each.
        wanted: the outputs that something other than an accumulator reads.

    Returns:
        The kernel; values that only accumulators read are no outputs of it.
    """
    build = _Build(region, layout, held, [name for name, _ in pairs])
    values = dict(zip(region.outputs, build.copy_body(), strict=True))
    sums = [build.add(name, values[value]) for name, value in pairs]
    kept = [n for n in region.outputs if n in wanted]
    build.graph.output((*(values[n] for n in kept), *sums))
    module = fx.GraphModule({}, build.graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return Kernel(region.name, module, tuple(build.inputs), (*kept, *(name for name, _ in pairs)))


class _Build:
    """A graph under construction."""

    def __init__(self, region: Region, layout: Layout, held: frozenset[str], accumulators: Sequence[str]) -> None:
        self.region, self.layout, self.held = region, layout, held
        self.graph = fx.Graph()
        self.inputs: dict[str, fx.Node] = {}
        self.bind = {name: self._source(name) for name in region.inputs}
        for name in (*self.bind.values(), *accumulators):
            self.take(name)

    def copy_body(self) -> list[fx.Node]:
        """Copies the region's operations; the nodes of its outputs."""
        names = iter(self.region.inputs)
        copies: dict[fx.Node, fx.Node] = {}
        for node in self.region.module.graph.nodes:
            if node.op == "placeholder":
                copies[node] = self._resolve(next(names))
            elif node.op == "output":
                return [copies[n] for n in node.args[0]]  # type: ignore[index, union-attr]
            else:
                copies[node] = self.graph.node_copy(node, copies.__getitem__)
        raise AssertionError("a graph without output")

    def add(self, accumulator: str, value: fx.Node) -> fx.Node:
        """The accumulator's new value."""
        return self.graph.call_function(aten.add.Tensor, (self.inputs[accumulator], value))

    def take(self, name: str) -> fx.Node:
        """The placeholder of an input."""
        if name not in self.inputs:
            self.inputs[name] = self.graph.placeholder(f"i{len(self.inputs)}")
        return self.inputs[name]

    def _source(self, name: str) -> str:
        """What an input is read from: its bucket if that is here, else itself."""
        kind, _, leaf = name.partition(".")
        home = self.layout.home(leaf) if kind == "param" else None
        if home is not None and home[0].name in self.held:
            return f"bucket.{home[0].name}"
        return f"leaf.{leaf}" if kind == "param" else name

    def _resolve(self, name: str) -> fx.Node:
        source = self.take(self.bind[name])
        if not self.bind[name].startswith("bucket."):
            return source
        home = self.layout.home(name.partition(".")[2])
        assert home is not None
        flat = self.graph.call_function(aten.slice.Tensor, (source, 0, home[1].offset, home[1].offset + home[1].numel))
        return self.graph.call_function(aten.view.default, (flat, list(home[1].shape)))
