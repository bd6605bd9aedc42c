"""A traced graph and its cuts become stages: functional partitions of the joint graph."""

from functools import cached_property

from torch import fx

from funpipe._errors import StageError
from funpipe.stages.assign import Assignment, assign
from funpipe.stages.extract import needed, region, value_name
from funpipe.stages.sources import Sources
from funpipe.stages.stage import Kind, Region, Stage
from funpipe.tracing.traced import Traced


def partition(traced: Traced, cuts: tuple[int, ...]) -> tuple[Stage, ...]:
    """Cuts a traced graph into stages.

    What crosses a cut is read off the graph: a value goes from the stage that makes it straight to each stage that
    reads it. A region's outputs are values that own their memory; views are taken again where they are read, and
    parameters and inputs are never saved a second time.

    Args:
        traced: the joint graph.
        cuts: ascending positions in `traced.forward`; stage i begins at `cuts[i - 1]`.

    Returns:
        `len(cuts) + 1` stages.

    Raises:
        StageError: a cut out of range, a stage without operations, or a buffer that one stage updates and another
            reads.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: (x @ p["a"] @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> [stage.params for stage in fp.stages.partition(traced, (1,))]
        [('a',), ('b',)]
    """
    _check_cuts(traced, cuts)
    return _Partition(traced, cuts).stages()


def _check_cuts(traced: Traced, cuts: tuple[int, ...]) -> None:
    last = len(traced.forward)
    bounds = (0, *cuts, last)
    for i, (low, high) in enumerate(zip(bounds, bounds[1:], strict=False)):
        if cuts and low >= high:
            raise StageError(
                f"stage {i} is empty: the cuts {cuts} put its first operation at {low} and its end at {high}, of "
                f"{last} operations. Move the cut so that at least one operation lies between two stage ends."
            )


class _Partition:
    """The work of one partition: what each region must give is collected from the last region to the first."""

    def __init__(self, traced: Traced, cuts: tuple[int, ...]) -> None:
        self.traced = traced
        self.sources = Sources(traced.graph)
        self.assigned: Assignment = assign(traced, cuts, self.sources)
        self.order = {n: i for i, n in enumerate(traced.graph.nodes)}
        self.backward = set(traced.backward)
        self.leaves = traced.leaves
        self.wanted: dict[tuple[str, int], dict[fx.Node, None]] = {}
        self.names: dict[tuple[str, int, fx.Node], str] = {}
        self._check_stages(cuts)

    def stages(self) -> tuple[Stage, ...]:
        count = self.assigned.num_stages
        self._want_terms()
        results = self._want_results()
        B = [self._region("B", s) for s in range(count)]
        F = [self._region("F", s) for s in reversed(range(count))][::-1]
        return tuple(self._stage(s, F[s], B[s], results[s]) for s in range(count))

    def _want(self, node: fx.Node, kind: str, stage: int) -> None:
        self.wanted.setdefault((kind, stage), {}).setdefault(node)

    def _want_terms(self) -> None:
        for name, terms in self.traced.gradients.items():
            for term, stage in zip(terms, self.assigned.places[name], strict=True):
                self._want(term, "B", stage)

    def _want_results(self) -> list[dict[str, fx.Node]]:
        results: list[dict[str, fx.Node]] = [{} for _ in range(self.assigned.num_stages)]
        for name, node in self.traced.outputs.items():
            if name.startswith("buffer.") and value_name(node) == name:
                continue
            home = self._home(node)
            self._check_buffer(name, home)
            self._want(node, "F", home)
            results[home][name] = node
        return results

    def _home(self, node: fx.Node) -> int:
        """The stage that returns an output: where it, or what it is a view of, is made; of a leaf the first reader."""
        anchors = self.sources.anchors([node])
        made = [self.assigned.stage[a] for a in anchors if a in self.assigned.stage]
        readers = [stage for a in anchors for stage in self.assigned.uses.get(a, ())]
        return max(made) if made else min(readers, default=self.assigned.num_stages - 1)

    def _region(self, kind: Kind, stage: int) -> Region | None:
        wanted = self.wanted.get((kind, stage))
        if not wanted and kind == "B":
            return None
        cut = needed(wanted or (), lambda n: self._computes(n, kind, stage), self.order)
        for node in cut.outside:
            if node.op != "placeholder":
                self._want(node, "B" if node in self.backward else "F", self.assigned.stage[node])
        outputs = sorted(wanted or (), key=self.order.__getitem__)
        made = region(kind, stage, cut, outputs, {n for n in outputs if self._is_wanted_again(n, kind, stage)})
        self.names |= {(kind, stage, n): name for n, name in zip(outputs, made.outputs, strict=True)}
        return made

    def _is_wanted_again(self, node: fx.Node, kind: str, stage: int) -> bool:
        """Whether another region makes this output, too: only a floating node is made more than once."""
        others = (found for place, found in self.wanted.items() if place != (kind, stage))
        return self.sources.floats(node) and any(node in found for found in others)

    def _computes(self, node: fx.Node, kind: str, stage: int) -> bool:
        if self.sources.floats(node):
            return True
        return self.assigned.stage.get(node) == stage and (node in self.backward) == (kind == "B")

    def _stage(self, index: int, F: Region | None, B: Region | None, results: dict[str, fx.Node]) -> Stage:
        assert F is not None
        read = {n.removeprefix("param.") for r in (F, B) if r for n in r.inputs if n.startswith("param.")}
        terms = {
            name: tuple(
                (i, self.names["B", index, t]) for i, t in enumerate(nodes) if self.assigned.places[name][i] == index
            )
            for name, nodes in self.traced.gradients.items()
        }
        terms = {name: found for name, found in terms.items() if found}
        params = tuple(n for n in self.traced.params if n in read or self._owner(n) == index)
        found = {name: self.names["F", index, node] for name, node in results.items()}
        return Stage(index, F, B, params, tuple(n for n in params if self._owner(n) == index), found, terms)

    def _owner(self, name: str) -> int | None:
        """The stage where a trained leaf's optimizer state lives: the first that uses it."""
        if name not in self.traced.gradients:
            return None
        return min(self.assigned.uses_of(self.leaves.get(("param", name))))

    def _check_stages(self, cuts: tuple[int, ...]) -> None:
        full = {self.assigned.stage[n] for n in self.traced.forward if n in self.assigned.stage}
        for index in range(self.assigned.num_stages):
            if cuts and index not in full:
                raise StageError(
                    f"stage {index} is empty: between its cuts {cuts} there are only views and constants. Move the "
                    "cut to another module."
                )

    @cached_property
    def readers(self) -> dict[fx.Node, set[int]]:
        """The stages whose nodes, of forward or backward, read each value that is owned or a leaf."""
        found: dict[fx.Node, set[int]] = {}
        for node, stage in self.assigned.stage.items():
            for value in self.sources.of(node):
                found.setdefault(value, set()).add(stage)
        return found

    def _check_buffer(self, name: str, home: int) -> None:
        kind, _, leaf = name.partition(".")
        node = self.leaves.get(("buffer", leaf)) if kind == "buffer" else None
        others = self.readers.get(node, set()) - {home} if node is not None else set()
        if others:
            raise StageError(
                f"the buffer {leaf!r} is updated in stage {home} and read in stage {min(others)}: the next microbatch "
                "would wait for the whole pipeline. Cut elsewhere, so that one stage reads and updates it."
            )


def crossing(stages: tuple[Stage, ...]) -> dict[str, tuple[int, tuple[int, ...]]]:
    """What crosses the cuts: for each value the stage that makes it and those that read it.

    Args:
        stages: a partition, as `partition` gives it.

    Returns:
        Each value that another stage than its maker's reads, in the order of the stages that make them, with the index
        of that stage and of its readers. Gradients that flow back are values like any other.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: (x @ p["a"] @ p["b"]).sum()
        >>> traced = fp.trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> fp.stages.crossing(fp.stages.partition(traced, (1,)))
        {'mm': (0, (1,)), 'mm_3': (1, (0,))}
    """
    maker = {v: s.index for s in stages for r in s.regions for v in r.outputs}
    readers: dict[str, dict[int, None]] = {}
    for s in stages:
        for value in (v for r in s.regions for v in r.inputs if v in maker and maker[v] != s.index):
            readers.setdefault(value, {}).setdefault(s.index)
    return {value: (made, tuple(readers[value])) for value, made in maker.items() if value in readers}
