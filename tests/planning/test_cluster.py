"""Clusters and their links."""

import pytest

from funpipe._errors import FunpipeTypeError, PlanError
from funpipe.planning import Cluster, Link, Links


def test_a_message_takes_latency_and_bytes():
    assert Link(100.0, 0.5).time(50) == 1.0


def test_devices_of_a_node_use_its_links():
    links = Links(inside=Link(9.0), between=Link(3.0), node=4)
    assert links.of((0, 3)) == Link(9.0)
    assert links.of((3, 4)) == links.of((0, 1, 7)) == Link(3.0)


def test_what_is_between_nodes_is_as_inside_if_nothing_is_said():
    assert Links(inside=9.0, node=2).of((0, 5)) == Link(9.0)


def test_sums_may_have_a_link_of_their_own():
    links = Links(inside=9.0, reduction=2.0)
    assert links.ring((0, 1)) == Link(2.0)
    assert links.of((0, 1)) == Link(9.0)


def test_a_bandwidth_stands_for_links():
    assert Cluster(2, 1e12, 1e9, links=5.0).wiring.of((0, 1)) == Link(5.0)


def test_without_a_bandwidth_a_byte_takes_200_operations():
    assert Cluster(1, flops=1e12, memory=1e9).traffic == 5e9


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"devices": 0}, "a cluster of 0 devices; pass an int of at least 1"),
        ({"devices": 2.5}, "a cluster of 2.5 devices; pass an int"),
        ({"flops": 0}, "the flops is 0; pass a finite number above 0"),
        ({"flops": float("inf")}, "the flops is inf; pass a finite number above 0"),
        ({"memory": -1}, "the memory is -1; pass a finite number above 0"),
        ({"overhead": float("nan")}, "the overhead is nan; pass a finite number from 0"),
        ({"bandwidth": 0.0}, "the bandwidth is 0.0; pass a number above 0"),
        ({"links": -1.0}, "the bandwidth of a link is -1.0; pass a number above 0"),
    ],
)
def test_numbers_that_cannot_be(changes, text):
    with pytest.raises(PlanError, match=text):
        Cluster(**{"devices": 2, "flops": 1e12, "memory": 1e9, **changes})


def test_a_word_is_no_number():
    with pytest.raises(FunpipeTypeError, match=r"the memory is '80GB', of type str; pass a number"):
        Cluster(2, 1e12, "80GB")


def test_a_node_has_devices():
    with pytest.raises(PlanError, match=r"a node of 0 devices; pass an int of at least 1"):
        Links(node=0)


def test_whether_messages_overlap_is_true_or_false():
    with pytest.raises(FunpipeTypeError, match=r"overlap of links is 'no'; pass True or False"):
        Links(overlap="no")
