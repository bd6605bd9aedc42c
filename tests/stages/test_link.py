"""Stages that were traced one by one, connected."""

from dataclasses import replace

import pytest

import funpipe as fp
from funpipe.stages import crossing, link, readers
from tests.stages.parts import WIRES, pieces


def test_what_one_makes_another_reads_under_the_same_name():
    stages = link(pieces(), WIRES)
    assert set(stages[0].F.outputs) >= {"tanh_s0"} and "tanh_s0" in stages[1].F.inputs
    assert {maker for maker, _ in crossing(stages).values()} == {0, 1, 2}


def test_a_skip_connection_goes_straight_to_its_reader_and_back():
    crossed = crossing(link(pieces(), WIRES))
    assert crossed["tanh_s0"] == (0, (1, 2))
    assert sorted(made for made, by in crossed.values() if 0 in by) == [1, 2]


def test_readers_are_named_for_each_output():
    assert readers(WIRES, 0) == {"y": ("1.x", "2.s")}
    assert readers(WIRES, 2) == {}


def test_a_gradient_that_its_reader_does_not_give_is_named():
    made = pieces()
    made[1] = replace(made[1], gradients={})
    with pytest.raises(fp.FunpipeError, match="stage 0 waits for a gradient of its output 'y', and stage 1, .* 'x'"):
        link(made, WIRES)
