"""Stages of other processes: they can be sent, print as where they run, and cannot be run here."""

import pickle

import pytest

import funpipe as fp
from funpipe.stages import told
from tests.stages.parts import pieces


def test_a_told_piece_can_be_pickled_and_prints_the_same():
    piece = pieces()[1]
    back = pickle.loads(pickle.dumps(told(piece)))
    assert back.stage.as_text() == piece.stage.as_text()
    assert (back.params, back.outputs, back.gradients) == (piece.params, piece.outputs, piece.gradients)


def test_its_regions_cannot_be_run_here():
    with pytest.raises(fp.FunpipeError, match="F1 runs in another process"):
        told(pieces()[1]).stage.F.module(1, 2)
