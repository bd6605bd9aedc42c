from random import Random

import pytest
import torch

from funpipe._errors import PassError
from funpipe.functional.communication import OPERATORS
from funpipe.graphs import Graph, Ref
from funpipe.graphs.bound import start_of
from funpipe.graphs.communication import is_wait
from funpipe.passes import bucket, prefetch_gathers
from funpipe.passes.communication.cost_model import collective_bytes
from tests.passes.communication.steps import Step, applied, aten, names, require_same
from tests.passes.random_graphs import random_graph


def sharded(layers: int, *, first: bool) -> Graph:
    """Layers whose weights are gathered all at first, or each right in front of its use."""
    step = Step()
    step.leaf("h", 4, 4)
    for i in range(layers):
        step.leaf(f"x{i}", 2, 4)

    def gather(i: int) -> None:
        step.gather(f"p{i}", f"x{i}")
        step.wait(f"w{i}", f"p{i}")

    for i in range(layers if first else 0):
        gather(i)
    for i in range(layers):
        if not first:
            gather(i)
        step.mm(f"h{i}", "h" if i == 0 else f"h{i - 1}", f"w{i}")
    return step.graph([f"h{layers - 1}"])


@pytest.mark.parametrize("first", [True, False])
def test_one_gather_is_ahead(first):
    made = prefetch_gathers()(sharded(4, first=first))
    assert names(made) == "p0 w0 p1 h0 w1 p2 h1 w2 p3 h2 w3 h3"
    require_same(sharded(4, first=first), made)


def test_two_gathers_are_ahead():
    assert names(prefetch_gathers(depth=2)(sharded(4, first=False))) == "p0 p1 w0 p2 h0 w1 p3 h1 w2 h2 w3 h3"


def test_a_limit_of_bytes():
    """What is gathered has 64 bytes."""
    graph = sharded(3, first=False)
    one = names(prefetch_gathers(None, 64)(graph))
    assert one == names(prefetch_gathers(None, 127)(graph)) == names(prefetch_gathers(None, 1)(graph))
    assert one == names(prefetch_gathers(1)(graph))
    assert names(prefetch_gathers(None, 128)(graph)) == names(prefetch_gathers(2)(graph))
    assert names(prefetch_gathers(2, 64)(graph)) == one


def test_gathers_of_the_backward_overtake_its_scatters():
    step = Step()
    for name, shape in (("h", (4, 4)), ("x1", (2, 4)), ("x0", (2, 4))):
        step.leaf(name, *shape)
    for i in (1, 0):
        step.gather(f"p{i}", f"x{i}")
        step.wait(f"w{i}", f"p{i}")
        step.mm(f"g{i}", "h" if i == 1 else "g1", f"w{i}")
        step.scatter(f"s{i}", f"g{i}")
        step.wait(f"v{i}", f"s{i}")
    graph = step.graph(["v1", "v0"])
    made = prefetch_gathers()(graph)
    assert names(made) == "p1 w1 p0 g1 s1 v1 w0 g0 s0 v0"
    require_same(graph, made)


def test_a_cast_moves_with_its_gather():
    step = Step()
    step.leaf("h", 4, 4, dtype=torch.bfloat16)
    for i in range(3):
        step.leaf(f"x{i}", 2, 4)
        step.op(f"c{i}", aten._to_copy.default, f"x{i}", dtype=torch.bfloat16)
    for i in range(3):
        step.gather(f"p{i}", f"c{i}")
        step.wait(f"w{i}", f"p{i}")
    for i in range(3):
        step.mm(f"h{i}", "h" if i == 0 else f"h{i - 1}", f"w{i}")
    assert names(prefetch_gathers()(step.graph(["h2"]))) == "c0 p0 w0 c1 p1 h0 w1 c2 p2 h1 w2 h2"


def test_a_value_that_two_gathers_send_is_there_for_the_first():
    step = Step()
    step.leaf("x", 2, 4)
    step.neg("n", "x")
    for i, axis in enumerate(("dp", "pp", "dp")):
        step.gather(f"p{i}", "n", axis=axis)
        step.wait(f"w{i}", f"p{i}")
        step.neg(f"u{i}", f"w{i}")
    graph = step.graph(["u0", "u1", "u2"])
    require_same(graph, prefetch_gathers()(graph))


def test_what_other_ranks_gather_otherwise_stays():
    graph = sharded(3, first=True)
    step = Step()
    step.leaf("x", 2, 4)
    step.add(OPERATORS.post_recv.default, 0, named="post")
    for i in range(2):
        step.add(OPERATORS.all_gather.default, Ref("x"), "pp", 2, named=f"p{i}")
    for i in range(2):
        step.wait(f"w{i}", f"p{i}")
    graph = step.graph(["w0", "w1"])
    assert names(prefetch_gathers()(graph)) == names(graph)


@pytest.mark.parametrize("seed", range(15))
def test_never_more_is_in_flight(seed):
    random = Random(seed)
    graph = random_graph(random, 60)
    depth, limit = random.choice([(1, None), (2, None), (None, 200), (3, 100)])
    made = applied(prefetch_gathers(depth, limit), graph)
    require_same(graph, made, seed)
    flying: dict[str, int] = {}
    for node in made.nodes:
        if node.target is OPERATORS.all_gather.default and made.readers(node.name):
            flying[node.name] = collective_bytes(made, node)
        elif is_wait(node):
            flying.pop(start_of(made, node).name, None)
        assert len(flying) <= (depth or 99)
        assert len(flying) <= 1 or sum(flying.values()) <= (limit or 1 << 40)


def test_the_user_is_told_what_is_wrong():
    with pytest.raises(PassError, match="depth=0 lets nothing be gathered: pass 1 or more"):
        prefetch_gathers(0)
    with pytest.raises(PassError, match="without depth and max_bytes all is gathered at once: pass one of them"):
        prefetch_gathers(None)
    with pytest.raises(PassError, match="'bucket' must be applied|'prefetch_gathers' must be applied after"):
        bucket()(prefetch_gathers()(sharded(2, first=True)))
