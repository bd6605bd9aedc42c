"""Bucketing, and each way in which the original went wrong: sizes, keys, order, the first bucket, buckets of one."""

from random import Random

import pytest
import torch

from funpipe._errors import PassError
from funpipe.functional.communication import OPERATORS
from funpipe.graphs import Graph, Ref, check, find
from funpipe.graphs.communication import is_start, is_wait
from funpipe.passes import bucket, verify
from funpipe.passes.communication.cost_model import collective_bytes, nbytes
from tests.passes.communication.steps import Step, applied, aten, names, require_same, starts
from tests.passes.random_graphs import random_graph

MODES = ["concat", "coalesced"]


def gradients(count: int, *shape: int, dtype: torch.dtype = torch.float32) -> Graph:
    """Starts, then waits, of `count` gradients of one shape."""
    step = Step()
    step.leaf("x", *shape, dtype=dtype)
    for i in range(count):
        step.neg(f"g{i}", "x" if i == 0 else f"g{i - 1}")
    for i in range(count):
        step.reduce(f"p{i}", f"g{i}")
    for i in range(count):
        step.wait(f"w{i}", f"p{i}")
    return step.graph([f"w{i}" for i in range(count)])


def sizes(graph: Graph) -> list[int]:
    """The bytes of each start, in order."""
    return [collective_bytes(graph, node) for node in graph.nodes if is_start(node)]


@pytest.mark.parametrize("mode", MODES)
def test_all_gradients_go_as_one_and_keep_their_bits(mode):
    graph = gradients(4, 3, 5)
    made = bucket(mode=mode)(graph)
    assert len(starts(made)) == 1
    assert [node.name for node in find(made, lambda n: n.name in graph.outputs)] == []
    require_same(graph, made)


@pytest.mark.parametrize(("dtype", "nbytes"), [(torch.float64, 64), (torch.float32, 32), (torch.bfloat16, 16)])
def test_bytes_are_counted_by_item_size(dtype, nbytes):
    """The original counted four bytes for an element of any dtype."""
    made = bucket(2 * nbytes, 3 * nbytes)(gradients(8, 8, dtype=dtype))
    assert sizes(made) == [2 * nbytes, 3 * nbytes, 3 * nbytes]
    assert sizes(bucket(2 * nbytes - 1, 3 * nbytes - 1)(gradients(4, 8, dtype=dtype))) == [nbytes, 2 * nbytes, nbytes]


def test_the_first_limit_is_a_parameter():
    """The original closed the first bucket at 1 MiB, whatever it was asked for."""
    assert sizes(bucket(first_bytes=4, cap_bytes=1 << 30)(gradients(5, 1 << 18))) == [1 << 20, 4 << 20]
    assert sizes(bucket(first_bytes=1 << 30)(gradients(5, 1 << 18))) == [5 << 20]


def test_a_bucket_of_one_is_left_as_it_is():
    """The original copied a single tensor into a bucket and out of it."""
    graph = gradients(3, 8)
    assert names(bucket(1, 1)(graph)) == "g0 p0 g1 p1 g2 p2 w0 w1 w2"
    assert names(bucket()(gradients(1, 8))) == "g0 p0 w0"


def test_a_tensor_above_the_limit_is_a_bucket_of_its_own():
    step = Step()
    for name, size in (("a", 2), ("b", 100), ("c", 2), ("d", 2)):
        step.leaf(name, size)
        step.reduced(name, name)
    made = bucket(16, 16)(step.graph(["wa", "wb", "wc", "wd"]))
    assert sizes(made) == [8, 400, 16]


def test_closes_after_lets_the_crossing_tensor_in():
    made = bucket(33, 65, closes="after")(gradients(8, 8))
    assert sizes(made) == [64, 96, 96]


@pytest.mark.parametrize("mode", MODES)
def test_only_alike_collectives_share_a_bucket(mode):
    """The original took the reduction and the group of the last one for all, and let cat promote dtypes."""
    step, waits = Step(), []
    for dtype in (torch.float32, torch.float64):
        for axis in ("dp", "pp"):
            for reduce in ("sum", "max"):
                for i in range(2):
                    name = f"{str(dtype)[6:]}.{axis}.{reduce}.{i}"
                    step.leaf(name, 3, dtype=dtype)
                    step.reduced(name, name, axis=axis, reduce=reduce)
                    waits.append(f"w{name}")
    graph = step.graph(waits)
    made = bucket(mode=mode)(graph)
    assert len(starts(made)) == 8
    require_same(graph, made)


@pytest.mark.parametrize("mode", MODES)
def test_collectives_next_to_their_gradients(mode):
    """The original made an invalid order wherever a collective's result is read before the next gradient."""
    step = Step()
    step.leaf("x", 4)
    for i in range(3):
        step.neg(f"g{i}", "x" if i == 0 else f"g{i - 1}")
        step.reduced(f"{i}", f"g{i}")
        step.op(f"u{i}", aten.add.Tensor, "x", f"w{i}")
    graph = step.graph(["u0", "u1", "u2"])
    made = bucket(mode=mode)(graph)
    check(made)
    assert len(starts(made)) == 1
    require_same(graph, made)


def test_collectives_that_depend_on_each_other_are_apart():
    step = Step()
    step.leaf("x", 4)
    step.reduced("0", "x")
    step.neg("y", "w0")
    step.reduced("1", "y")
    graph = step.graph(["w0", "w1"])
    assert names(bucket()(graph)) == names(graph)


def test_buckets_never_wait_for_each_other():
    """a, c and b, d could both be merged, but not at once: b reads what a gives, and c what d gives."""
    step = Step()
    for name, dtype in (("a", torch.float32), ("d", torch.float64)):
        step.leaf(name, 4, dtype=dtype)
        step.reduced(name, name)
    step.op("b", aten._to_copy.default, "wa", dtype=torch.float64)
    step.op("c", aten._to_copy.default, "wd", dtype=torch.float32)
    step.reduced("b", "b")
    step.reduced("c", "c")
    graph = step.graph(["wa", "wb", "wc", "wd"])
    made = bucket()(graph)
    check(made)
    require_same(graph, made)


def test_buckets_are_filled_in_the_order_in_which_gradients_are_ready():
    """The step reduces its gradients in the order of the parameters, and the last layer's is ready first."""
    step = Step()
    step.leaf("x", 4, 4)
    for i in (3, 2, 1, 0):
        step.mm(f"g{i}", "x", "x" if i == 3 else f"g{i + 1}")
    for i in range(4):
        step.add(aten.div.Tensor, Ref(f"g{i}"), 2, named=f"d{i}")
        step.reduced(f"{i}", f"d{i}")
    graph = step.graph([f"w{i}" for i in range(4)])
    made = bucket(128, 128, mode="coalesced")(graph)
    first, second = find(made, is_start)
    assert (first.reads, second.reads) == (("d3", "d2"), ("d1", "d0"))
    assert made.positions[first.name] < made.positions["g1"], "the first bucket is on its way before the backward ends"
    require_same(graph, made)


def test_dead_collectives_are_gone():
    step = Step()
    step.leaf("x", 4)
    step.reduced("0", "x")
    step.reduced("1", "x")
    step.reduce("2", "x")
    graph = step.graph(["w0"])
    assert names(bucket()(graph)) == "p0 w0"


def test_what_the_next_step_waits_for_is_not_merged():
    step = Step()
    step.leaf("x", 4)
    step.reduced("0", "x")
    step.reduce("p1", "x")
    graph = step.graph(["w0", "p1"])
    assert sorted(names(bucket()(graph)).split()) == ["p0", "p1", "w0"]


@pytest.mark.parametrize("mode", MODES)
def test_any_layout_comes_back_in_rows(mode):
    step = Step()
    for name, shape in (("a", (3, 5)), ("b", ()), ("c", (0, 2)), ("d", (1, 7)), ("e", (2, 3, 4))):
        step.leaf(name, *shape)
    step.op("t", aten.t.default, "a")
    step.add(aten.expand.default, Ref("d"), [4, 7], named="wide")
    step.add(aten.permute.default, Ref("e"), [2, 0, 1], named="turned")
    for name in ("a", "b", "c", "d", "t", "wide", "turned"):
        step.reduced(name, name)
    graph = step.graph([n for n in step.readable if n.startswith("w") and n != "wide"])
    made = bucket(mode=mode)(graph)
    assert len(starts(made)) == 1
    require_same(graph, made)


def test_gathers_and_scatters_share_buckets_of_their_own():
    step = Step()
    for i, shape in enumerate([(2, 3), (4,), (2,)]):
        step.leaf(f"x{i}", *shape)
        step.gather(f"pg{i}", f"x{i}")
        step.wait(f"wg{i}", f"pg{i}")
        step.scatter(f"ps{i}", f"x{i}")
        step.wait(f"ws{i}", f"ps{i}")
    graph = step.graph([n for n in step.readable if n.startswith("w")])
    made = bucket()(graph)
    assert starts(made) == ["all_gather", "reduce_scatter"]
    require_same(graph, made)
    assert len(starts(bucket(mode="coalesced")(graph))) == 6, "there is no coalesced form of these"


def test_one_start_that_is_waited_for_twice():
    step = Step()
    step.leaf("x", 4)
    step.reduce("p0", "x")
    step.reduce("p1", "x")
    for wait in ("wa", "wb"):
        step.wait(wait, "p0")
    step.wait("wc", "p1")
    made = bucket()(step.graph(["wa", "wb", "wc"]))
    check(made)
    assert len(find(made, is_wait)) == 1


def test_a_loss_that_the_caller_gets_is_apart_from_gradients():
    """Or an update that is put off to the next step (`rotate`) would put off the loss."""
    step = Step()
    for name in ("state.1", "state.2", "loss", "norm"):
        step.leaf(name, 4)
        step.reduced(f".{name}", name)
        step.neg(f"n.{name}", f"w.{name}")
    graph = step.graph(["n.loss"])
    state = {name: Ref(f"n.{name}") for name in ("state.1", "state.2")}
    made = bucket(mode="coalesced")(graph.replace(outputs={**graph.outputs, **state, "state.3": Ref("n.norm")}))
    assert [node.reads for node in find(made, is_start)] == [("loss",), ("state.1", "state.2", "norm")]


def test_in_a_pipeline_only_replicas_share_buckets():
    """Ranks of "pp" and "world" run other graphs, which may group otherwise."""
    step = Step()
    step.leaf("x", 4)
    step.add(OPERATORS.post_recv.default, 0, named="post")
    for axis in ("dp", "pp", "world"):
        step.reduced(f"{axis}0", "x", axis=axis)
        step.reduced(f"{axis}1", "x", axis=axis)
    graph = step.graph([n for n in step.readable if n.startswith("w")])
    assert len(starts(bucket()(graph))) == 5
    without = graph.replace(nodes=graph.nodes[1:])
    assert len(starts(bucket()(without))) == 3
    assert len(starts(bucket()(without.replace(pipelined=True)))) == 5


def test_names_that_are_taken_are_left_alone():
    step = Step()
    step.leaf("bucket", 4)
    step.neg("bucket_start", "bucket")
    step.reduced("0", "bucket_start")
    step.reduced("1", "bucket")
    graph = step.graph(["w0", "w1"])
    require_same(graph, bucket()(graph))


def test_twice_is_allowed_and_changes_nothing():
    once = bucket(mode="coalesced")(gradients(4, 8))
    assert names(bucket(mode="coalesced")(once)) == names(once)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(15))
def test_no_bucket_is_above_its_limit(mode, seed):
    random = Random(seed)
    graph = random_graph(random, 60)
    made = applied(bucket(60, 90, mode), graph)
    alone = {node.name for node in graph.nodes}
    merged = [node for node in made.nodes if is_start(node) and node.name not in alone]
    assert all(max(nbytes(node.type), collective_bytes(made, node)) <= 90 for node in merged)


def test_types_are_those_that_operators_give():
    """Every new node says of its value what the operator makes of what it reads."""
    graph = random_graph(Random(5), 60)
    for mode in MODES:
        made = bucket(1 << 20, mode=mode)(graph)
        step = Step()
        for name, kind in made.inputs.items():
            step.leaf(name, *kind.shape, dtype=kind.dtype)
        for node in made.nodes:
            step.add(node.target, *node.args, named=node.name, **node.kwargs)
        assert [(n.name, n.type) for n in made.nodes] == [(n.name, n.type) for n in step.nodes]


def test_the_user_is_told_what_is_wrong():
    with pytest.raises(PassError, match="there is no mode 'flat' of bucket: pass 'concat' or 'coalesced'"):
        bucket(mode="flat")
    with pytest.raises(PassError, match="first_bytes=0 leaves no room for any tensor: pass 1 or more"):
        bucket(first_bytes=0)
    with pytest.raises(PassError, match="first_bytes='1MB' leaves no room for any tensor: pass 1 or more bytes"):
        bucket("1MB")
    with pytest.raises(PassError, match="cap_bytes=-1 leaves no room"):
        bucket(cap_bytes=-1)
    with pytest.raises(PassError, match="no closes='never' of bucket: pass 'before' or 'after'"):
        bucket(closes="never")


def test_new_nodes_say_who_made_them_and_where_they_come_from():
    made = bucket()(gradients(2, 4))
    assert {node.origin for node in made.nodes} == {"", "bucket"}
    verify(gradients(2, 4), made, bucket())
