"""Ranks of a pipelined step defer the same of what they share."""

import pytest
import torch

from funpipe._errors import RotateError
from funpipe._typing import TensorType
from funpipe.functional.communication import OPERATORS
from funpipe.graphs import Graph, Node, Ref
from funpipe.passes.rotation import collectives, require_agreement, rotated, updates

KIND = TensorType((2,), (1,), torch.float32)


def graph(axis):
    nodes = (
        Node("start", OPERATORS.all_reduce.default, (Ref("batch.x"), "sum", axis), type=KIND),
        Node("wait", OPERATORS.wait_tensor.default, (Ref("start"),), type=KIND),
        Node("new", torch.ops.aten.neg.default, (Ref("wait"),), type=KIND),
    )
    return Graph({"state.w": KIND, "batch.x": KIND}, nodes, {"state.w": Ref("new")})


@pytest.mark.parametrize("axis", ["pp", "world"])
def test_one_rank_defers_what_another_does_not(axis):
    one, other = rotated(graph(axis), collectives(0)), rotated(graph(axis), updates(["w"]))
    require_agreement([one, one])
    require_agreement([other, other])
    with pytest.raises(RotateError) as error:
        require_agreement([one, other])
    assert str(error.value) == (
        f"the ranks have deferred different collectives on '{axis}': in first, rank 0 starts none and rank 1 "
        "['funpipe_collectives.all_reduce.default(float32[2])'], so they would wait for each other: defer the same "
        "ones on all stages, or those on 'dp' alone."
    )


def test_replicas_run_one_graph():
    require_agreement([rotated(graph("dp"), collectives(0)), rotated(graph("dp"), updates(["w"]))])
