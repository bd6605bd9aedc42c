from dataclasses import replace

import pytest
import torch

from funpipe._errors import GraphError
from funpipe.graphs import Ref, check, parse
from tests.graphs.made import graph_of, summed

GOOD = graph_of(lambda x: (summed(x.sin()),), torch.ones(2), inputs=["batch.x"])


def test_a_good_graph_passes():
    check(GOOD)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda n: (n[1], n[0], n[2]), r"all_reduce .* reads %sin, which is made behind it"),
        (lambda n: (n[1], n[2]), r"reads %sin, which the graph does not have"),
        (lambda n: (*n, n[0]), r"two values have the name 'sin'"),
        (lambda n: (*n, replace(n[0], name="late", args=(Ref("all_reduce"),))), r"while it is on its way"),
        (lambda n: (*n, replace(n[1], name="twice", args=(Ref("all_reduce"), "sum", "dp"))), r"while it is on its way"),
        (lambda n: (*n, replace(n[2], name="again")), r"again .* waits for %all_reduce again: read %wait_tensor"),
        (lambda n: (n[0], n[1], replace(n[2], args=(Ref("sin"),))), r"waits for %sin, which no collective started"),
    ],
)
def test_a_broken_graph_is_an_error(change, said):
    with pytest.raises(GraphError, match=said):
        check(GOOD.replace(nodes=change(GOOD.nodes)))


def test_an_output_must_be_there():
    with pytest.raises(GraphError, match="an output is %sins, which the graph does not have; use (one of )?'sin'"):
        check(GOOD.replace(outputs={"out.0": Ref("sins")}))


def test_a_constant_needs_its_tensor():
    with pytest.raises(GraphError, match=r"'const.k' has no tensor"):
        check(parse("const.k: float32[2]\nreturn out.0 = %const.k"))


def test_parts_of_a_coalesced_start_are_in_flight_too():
    text = """batch.x: float32[2]
all: (float32[2]) = funpipe_collectives.all_reduce_coalesced.default([%batch.x], 'sum', 'dp')
part: float32[2] = getitem(%all, 0)
late: float32[2] = aten.sin.default(%part)
return out.0 = %late"""
    with pytest.raises(GraphError, match="reads %part while it is on its way"):
        check(parse(text))


def test_a_list_of_tensors_on_their_way_is_waited_for_part_by_part():
    text = """batch.x: float32[2]
all: (float32[2]) = funpipe_collectives.all_reduce_coalesced.default([%batch.x], 'sum', 'dp')
late: float32[2] = funpipe_collectives.wait_tensor.default(%all)
return out.0 = %late"""
    with pytest.raises(GraphError, match="waits for %all, which no collective started"):
        check(parse(text))


def test_what_an_earlier_step_started_is_in_flight_too():
    text = """carry.p: float32[2]
early: float32[2] = aten.sin.default(%carry.p)
late: float32[2] = funpipe_collectives.wait_tensor.default(%carry.p)
return out.0 = %early
return out.1 = %late"""
    with pytest.raises(GraphError, match="reads %carry.p while it is on its way"):
        check(parse(text))
