"""Which stage computes each node.

The forward is cut by position. The backward mirrors it, and is placed by what each node reads: a node runs on the
highest stage, not above its incoming gradients, that already has all the forward values it reads; a leaf's gradient
is added up on a stage that uses the leaf. Then a node sinks towards its readers, to the lowest stage that has the
values it needs, where that moves no more bytes, and a product in any case, for the cut has reckoned with its work
there; but not a product with a parameter that several stages use, which belongs to the use that it is the gradient of.
The arithmetic is that of the graph wherever it is cut.
"""

from bisect import bisect_right
from dataclasses import dataclass, field

from torch import fx

from funpipe.stages.costs import is_product, types_of
from funpipe.stages.sources import Sources, owner_of
from funpipe.tracing.traced import Traced


@dataclass
class Assignment:
    """The stage of every owned node, the stages that use each leaf, and the stage of each place of a gradient."""

    num_stages: int
    stage: dict[fx.Node, int] = field(default_factory=dict)
    uses: dict[fx.Node, set[int]] = field(default_factory=dict)
    places: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def uses_of(self, leaf: fx.Node | None) -> set[int]:
        """The stages whose forward reads a leaf; the first stage for a leaf that no forward reads."""
        return self.uses.get(leaf, {0}) if leaf is not None else {0}

    def available(self, value: fx.Node, stage: int) -> bool:
        """Whether a stage's forward makes or reads a value."""
        if value.op == "placeholder" and value.meta["leaf"][0] in ("batch", "const", "scale", "random"):
            return True
        return self.stage.get(value) == stage or stage in self.uses.get(value, ())


def assign(traced: Traced, cuts: tuple[int, ...], sources: Sources) -> Assignment:
    """Assigns the nodes of a traced graph to stages.

    Args:
        traced: the graph.
        cuts: ascending positions in `traced.forward`; stage i begins at `cuts[i - 1]`.
        sources: the graph's floating nodes.
    """
    made = Assignment(len(cuts) + 1)
    _forward(made, traced, cuts, sources)
    _backward(made, traced, sources)
    _places(made, traced, sources)
    _sink(made, traced, sources)
    return made


def _forward(made: Assignment, traced: Traced, cuts: tuple[int, ...], sources: Sources) -> None:
    for position, node in enumerate(traced.forward):
        if sources.floats(node):
            continue
        owner = owner_of(node)
        made.stage[node] = bisect_right(cuts, position) if owner is node else made.stage[owner]
        for source in sources.of(node):
            made.uses.setdefault(source, set()).add(made.stage[node])


def _backward(made: Assignment, traced: Traced, sources: Sources) -> None:
    backward = set(traced.backward)
    for node in traced.backward:
        if sources.floats(node):
            continue
        owner = owner_of(node)
        made.stage[node] = made.stage[owner] if owner is not node else _highest(made, sources.of(node), backward)


def _highest(made: Assignment, reads: tuple[fx.Node, ...], backward: set[fx.Node]) -> int:
    top = min((made.stage[r] for r in reads if r in backward), default=made.num_stages - 1)
    saved = [r for r in reads if r not in backward]
    return next((s for s in range(top, -1, -1) if all(made.available(r, s) for r in saved)), top)


def _places(made: Assignment, traced: Traced, sources: Sources) -> None:
    """The stage of each place: the highest stage that uses the leaf, not above what the place adds up.

    Where no stage that low uses the leaf (a checkpoint recomputes what later stages have computed), it is the stage
    that makes the gradient: nothing flows up the pipeline in a backward.
    """
    leaves = traced.leaves
    for name, terms in traced.gradients.items():
        uses = sorted(made.uses_of(leaves.get(("param", name))))
        made.places[name] = tuple(_place(uses, _lowest(made, sources.anchors([t]))) for t in terms)


def _place(uses: list[int], top: int) -> int:
    return max((u for u in uses if u <= top), default=top)


def _lowest(made: Assignment, nodes: list[fx.Node]) -> int:
    return min((made.stage[n] for n in nodes if n in made.stage), default=made.num_stages - 1)


def _sink(made: Assignment, traced: Traced, sources: Sources) -> None:
    backward = set(traced.backward)
    readers: dict[fx.Node, set[int]] = {}
    for name, terms in traced.gradients.items():
        for term, stage in zip(terms, made.places[name], strict=True):
            for node in sources.anchors([term]):
                readers.setdefault(node, set()).add(stage)
    for node in reversed(traced.backward):
        if sources.floats(node):
            continue
        if owner_of(node) is not node:
            readers.setdefault(owner_of(node), set()).update(readers.get(node, ()))
            continue
        _sink_one(made, node, readers, sources.of(node), backward)
        for source in sources.of(node):
            readers.setdefault(source, set()).add(made.stage[node])


def _sink_one(
    made: Assignment,
    node: fx.Node,
    readers: dict[fx.Node, set[int]],
    reads: tuple[fx.Node, ...],
    backward: set[fx.Node],
) -> None:
    saved = [r for r in reads if r not in backward]
    stages = range(max(readers.get(node, ()), default=made.stage[node]), made.stage[node])
    low = next((s for s in stages if all(made.available(r, s) for r in saved)), None)
    if low is None:
        return
    new = [r for r in reads if r in backward and low not in readers.get(r, ()) and made.stage[r] > low]
    params = [r for r in saved if r.op == "placeholder" and r.meta["leaf"][0] == "param"]
    tied = any(len(made.uses_of(r)) > 1 for r in params)
    if (is_product(node) and not tied) or _nbytes([node]) >= _nbytes(new):
        made.stage[node] = low
        for item in node.users:
            if item in made.stage and owner_of(item) is node:
                made.stage[item] = low


def _nbytes(nodes: list[fx.Node]) -> int:
    return sum(t.nbytes for n in nodes for t in types_of(n))
