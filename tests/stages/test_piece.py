"""A stage by itself: names of its own, the gradients of inputs apart, the backward split where it is asked for."""

import torch

from funpipe.stages import Piece
from funpipe.tracing import Leaf, Part
from tests.stages.parts import pieces


def test_names_are_the_stages_own():
    names = [set(p.stage.F.inputs) | set(p.stage.F.outputs) for p in pieces()]
    assert not names[0] & names[1] and not names[1] & names[2]


def test_gradients_of_inputs_are_no_terms():
    piece = pieces()[1]
    assert list(piece.stage.terms) == ["1.w"] and list(piece.gradients) == ["x"]
    assert piece.gradients["x"] in piece.stage.B.outputs


def test_what_others_wait_for_is_in_i_and_the_rest_in_w():
    first, middle, _ = pieces(split=True)
    assert first.stage.I is None and first.stage.W is not None  # nobody waits for the gradient of the batch
    assert middle.gradients["x"] in middle.stage.I.outputs


def test_a_parameter_is_no_input_whatever_its_name():
    w = Leaf.of(torch.ones(3, 3, requires_grad=True))
    part = Part(lambda p, b, i: ({"y": i["x"] @ p["batch.x"]}, b), {"batch.x": w}, {}, {"x": w})
    piece = Piece.of(0, part.trace({"y": ("next",)}))
    assert list(piece.stage.terms) == ["0.batch.x"] and list(piece.gradients) == ["x"]
