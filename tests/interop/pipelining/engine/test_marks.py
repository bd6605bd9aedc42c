"""Attributes are marked as they are."""

import torch
from torch import nn

from funpipe.interop.pipelining.engine.marks import marks_of


def test_buffers_are_marked_and_their_values_make_no_key():
    module = nn.BatchNorm1d(2)
    marks = marks_of([module])
    module.running_mean = torch.ones(2)
    assert marks.changed() and marks_of([module]).key == marks.key
    assert marks_of([], [module]).key != marks_of([], [nn.BatchNorm1d(2)]).key


def test_additions_and_removals_are_changes():
    module = nn.Sequential(nn.ReLU())
    for change in (lambda: module.append(nn.Tanh()), lambda: module.__delitem__(0), lambda: setattr(module, "new", 1)):
        marks = marks_of([module])
        assert not marks.changed()
        change()
        assert marks.changed()


def test_tensors_are_taken_back_and_numbers_are_not():
    module = nn.ReLU()
    module.kept = None
    marks = marks_of([module])
    module.kept, module.new, module.calls = torch.ones(1), torch.ones(1), 3
    marks.take_back()
    assert module.kept is None and not hasattr(module, "new") and module.calls == 3
