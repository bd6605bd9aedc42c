"""Where the tail runs in the next step.

head:  h0 (reads nothing)   h1 (reads t1)   send   h2 (reads t2)
tail:  t0   t1 (reads t0)   t2   t3 (read by nothing)
"""

import pytest
import torch

from funpipe._errors import RotateError
from funpipe.functional.communication import OPERATORS
from funpipe.graphs import Node, Ref
from funpipe.passes.rotation.place import placed


def node(name, *reads):
    return Node(name, torch.ops.aten.stack.default, ([Ref(r) for r in reads],))


def start(name, axis):
    return Node(name, OPERATORS.all_reduce.default, (Ref("carry.x"), "sum", axis))


HEAD = (node("h0"), node("h1", "t1"), node("h2", "t2"))
TAIL = (node("t0"), node("t1", "t0"), node("t2"), node("t3"))
SENDING = (HEAD[0], Node("send", OPERATORS.send.default, (Ref("h0"), 0)), *HEAD[1:])


def names(nodes):
    return [n.name for n in nodes]


def test_each_node_just_before_its_first_reader():
    assert names(placed(HEAD, TAIL, None)) == ["h0", "t0", "t1", "h1", "t2", "h2", "t3"]


def test_a_place_takes_the_whole_tail():
    assert names(placed(HEAD, TAIL, "h0")) == ["t0", "t1", "t2", "t3", "h0", "h1", "h2"]
    assert names(placed(HEAD, TAIL, "h1")) == ["h0", "t0", "t1", "t2", "t3", "h1", "h2"]


def test_a_place_behind_a_reader():
    with pytest.raises(RotateError, match=r"h1 \(.*\) reads %t1, and stands in front of before='h2'.*before='h1'"):
        placed(HEAD, TAIL, "h2")
    with pytest.raises(RotateError, match=r"reads 'w', which is %t1 of the last step"):
        placed(HEAD, TAIL, "h2", {"t1": "w"})


def test_collectives_of_the_tail_keep_their_order():
    """The one that is read first starts second."""
    tail = (start("s0", "dp"), start("s1", "dp"), node("t1", "s1"), node("t2", "s0"))
    assert names(placed(HEAD, tail, None)) == ["h0", "s0", "s1", "t1", "h1", "t2", "h2"]


def test_collectives_of_several_stages_come_before_messages():
    """Another stage may answer the message only when it has this rank's share."""
    tail = (
        node("t0"),
        Node("s0", OPERATORS.all_reduce.default, (Ref("t0"), "sum", "pp")),
        node("t1", "s0"),
        node("t2"),
    )
    assert names(placed(SENDING, tail, None)) == ["t0", "s0", "h0", "send", "t1", "h1", "t2", "h2"]
    assert names(placed(HEAD, tail, None)) == ["h0", "t0", "s0", "t1", "h1", "t2", "h2"]


def test_collectives_of_replicas_need_not():
    tail = (start("s0", "dp"), node("t1", "s0"), node("t2"))
    assert names(placed(SENDING, tail, None)) == ["h0", "send", "s0", "t1", "h1", "t2", "h2"]


def test_a_place_behind_a_message():
    tail = (start("s0", "world"), node("t1", "s0"), node("t2"))
    with pytest.raises(RotateError, match=r"before='h1' stands behind send .*deferred 's0'.* use before='send' or a"):
        placed(SENDING, tail, "h1")
    assert names(placed(SENDING, tail, "send")) == ["h0", "s0", "t1", "t2", "send", "h1", "h2"]
