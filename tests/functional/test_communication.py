import pytest
import torch

from funpipe._errors import CommunicationError
from funpipe.functional.communication import MESSAGES, OPERATORS, communicating, communicator


class Doubling:
    """A communicator that only shows that it was called."""

    def all_reduce(self, x, reduce, axis):
        return x * 2

    def wait(self, x):
        return x + 1


def test_operators_go_to_the_communicator_of_the_context():
    with communicating(Doubling()):
        pending = OPERATORS.all_reduce(torch.ones(2), "sum", "dp")
        assert OPERATORS.wait_tensor(pending).tolist() == [3, 3]


def test_outside_a_step_there_is_none():
    with communicating(Doubling()):
        assert communicator()
    with pytest.raises(CommunicationError, match=r"called outside a step.*trace the step with fp.trace_step"):
        OPERATORS.all_reduce(torch.ones(2), "sum", "dp")


def test_messages_are_not_removed_as_dead_code():
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    graph.call_function(MESSAGES[0], (x, 0))
    graph.output(x)
    graph.eliminate_dead_code()
    assert len(graph.find_nodes(op="call_function", target=MESSAGES[0])) == 1
