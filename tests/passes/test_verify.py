from dataclasses import replace

import pytest
import torch

from funpipe._errors import PassError
from funpipe._typing import TensorType
from funpipe.graphs import Node, Ref, parse
from funpipe.passes import Pass
from tests.graphs.made import graph_of, summed

GRAPH = graph_of(lambda x: (summed(x.sin()), summed(x.cos())), torch.ones(2), inputs=["batch.x"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda g: g.replace(nodes=g.nodes[::-1]), "made a graph that is none"),
        (lambda g: g.replace(outputs={"out.0": g.outputs["out.0"]}), "changed the outputs, from 'out.1' on"),
        (lambda g: g.replace(inputs={}, nodes=(), outputs={}), "changed the inputs"),
        (lambda g: None, "gave a NoneType for a Graph"),
    ],
)
def test_a_pass_that_breaks_a_graph_is_caught(change, said):
    with pytest.raises(PassError, match=f"the pass 'bad' {said}"):
        Pass("bad", change)(GRAPH)


def test_a_pass_that_changes_a_type_is_caught():
    kind = TensorType((1,), (1,), torch.float32)
    short = Node("short", torch.ops.aten.slice.Tensor, (Ref("sin"), 0, 0, 1), type=kind)

    def shortened(graph):
        return graph.replace(outputs={**graph.outputs, "out.0": Ref("short")}, nodes=(*graph.nodes, short))

    with pytest.raises(PassError, match=r"made 'out.0' of the outputs float32\[1\], and it was float32\[2\]"):
        Pass("bad", shortened)(GRAPH)


def test_an_output_that_was_there_is_not_on_its_way():
    def early(graph):
        return graph.replace(outputs={**graph.outputs, "out.0": Ref("all_reduce")})

    with pytest.raises(PassError, match=r"made 'out.0' of the outputs float32\[2\] on its way, and it was float32"):
        Pass("bad", early)(GRAPH)


def test_the_device_of_an_output_is_kept():
    def moved(graph):
        return graph.replace(nodes=tuple(replace(n, type=replace(n.type, device="cuda")) for n in graph.nodes))

    with pytest.raises(PassError, match=r"made 'out.0' of the outputs float32\[2\]@cuda, and it was float32\[2\]"):
        Pass("bad", moved)(GRAPH)


def test_the_order_of_collectives_is_kept_unless_the_pass_says_so():
    def swapped(graph):
        starts = [n for n in graph.nodes if n.name.startswith("all_reduce")]
        compute = [n for n in graph.nodes if n.name in ("sin", "cos")]
        waits = [n for n in graph.nodes if n.name.startswith("wait")]
        return graph.replace(nodes=(*compute, *starts[::-1], *waits))

    with pytest.raises(PassError, match="changed the order of collectives on 'dp', from 'all_reduce' on"):
        Pass("bad", swapped)(GRAPH)
    assert Pass("good", swapped, reorders=True)(GRAPH)


def test_a_new_node_has_the_type_of_its_value():
    def summed_up(graph):
        return graph.replace(
            nodes=tuple(replace(n, target=torch.ops.aten.sum.default) if n.name == "cos" else n for n in graph.nodes)
        )

    said = r"'bad' gave cos \(aten.sum.default.*\) the type float32\[2\], and it gives float32\[\]: set type="
    with pytest.raises(PassError, match=said):
        Pass("bad", summed_up)(GRAPH)


PIPELINED = parse("""x: float32[2]
p: float32[2] = funpipe_collectives.all_reduce.default(%x, 'sum', 'pp')
w: float32[2] = funpipe_collectives.wait_tensor.default(%p)
q: float32[2] = funpipe_collectives.all_reduce.default(%x, 'sum', 'dp')
v: float32[2] = funpipe_collectives.wait_tensor.default(%q)
send = funpipe_collectives.send.default(%x, 1)
return out.0 = %v""")


@pytest.mark.parametrize(
    ("order", "broken"),
    [((4, 0, 1, 2, 3), "'p'"), ((2, 3, 4), "'p'"), ((0, 1, 2, 3), "'send'"), ((2, 3, 0, 1, 4), None)],
)
def test_what_other_stages_rely_on_stays_whatever_a_pass_says(order, broken):
    def chosen(graph):
        return graph.replace(nodes=tuple(graph.nodes[i] for i in order))

    made = Pass("bad", chosen, reorders=True)
    if broken is None:
        assert made(PIPELINED)
        return
    with pytest.raises(PassError, match=rf"'bad' moved, added or removed what other stages .* from {broken} on: keep"):
        made(PIPELINED)
