import pytest
import torch

from funpipe._errors import CommunicationError
from funpipe._typing import MeshShape
from funpipe.functional.axes import axis_index, axis_size, members_along, on_mesh
from funpipe.tracing import trace_step
from tests.simulated import on_ranks

MESH = MeshShape(pp=2, dp=3)


@pytest.mark.parametrize(("axis", "size"), [("dp", 3), ("pp", 2), (("dp",), 3), (("dp", "pp"), 6), ("world", 6)])
def test_the_size_of_an_axis(axis, size):
    with on_mesh(MESH):
        assert axis_size(axis) == size


def test_each_rank_knows_its_place():
    found = on_ranks(
        lambda x: x + torch.stack([axis_index("dp"), axis_index("pp"), axis_index(("dp", "pp"))]),
        [torch.zeros(3, dtype=torch.int64)] * 6,
        MESH,
    )
    assert [tuple(t.tolist()) for t in found] == [(i // 2, i % 2, i) for i in range(6)]


def test_a_place_is_an_input_of_the_graph_and_only_where_it_is_read():
    def step(state, x):
        return state, x + axis_index("pp")

    assert list(trace_step(step, {}, torch.ones(2), mesh=MESH).graph.inputs) == ["batch.", "axis.pp"]


def test_the_order_of_axes_matters_where_ranks_are_numbered():
    with on_mesh(MESH):
        assert members_along(("pp", "dp"), "psum").axis == "world"
        with pytest.raises(CommunicationError, match=r"\('pp', 'dp'\), and .* along dp, then pp: pass \('dp', 'pp'\)"):
            axis_index(("pp", "dp"))


@pytest.mark.parametrize("axis", ["tp", ("dp", "tp"), ("dp", "dp"), (), 0])
def test_an_axis_that_the_mesh_does_not_have(axis):
    with on_mesh(MESH), pytest.raises(CommunicationError, match=r"has no axis .*; use 'dp', 'pp' or \('dp', 'pp'\)\."):
        axis_size(axis)


def test_outside_a_step():
    with pytest.raises(CommunicationError, match=r"axis_size was called outside a step.* fp\.trace_step\("):
        axis_size("dp")


def test_a_place_that_was_not_given():
    with on_mesh(MESH), pytest.raises(CommunicationError, match=r"axis_index\('dp'\).*pass index= to on_mesh"):
        axis_index("dp")
