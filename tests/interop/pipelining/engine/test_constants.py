"""Things that are no tensors are told apart by what is in them."""

import gc
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from funpipe.interop.pipelining.engine import Call
from funpipe.interop.pipelining.engine.constants import Same, constant
from tests.interop.pipelining.engine.pipelines import WIDTH, batch, engine


def test_long_arrays_and_changed_objects_have_other_keys():
    array, thing = np.ones(10_000), SimpleNamespace(k=1)
    before = constant(array), constant(thing)
    array[5000], thing.k = 3, 2
    assert constant(array) != before[0] and constant(thing) != before[1]
    assert constant(np.ones(10_000)) == before[0] and constant(SimpleNamespace(k=1)) == before[1]


def test_numbers_of_other_types_and_not_a_number():
    assert len({constant(1), constant(1.0), constant(True), constant("1")}) == 4
    assert constant(float("nan")) == constant(float("nan"))


def test_an_object_at_the_address_of_a_dead_one_is_another():
    one, other = nn.ReLU(), nn.ReLU()
    dead = Same(one)
    assert dead == Same(one) != Same(other)
    del one
    gc.collect()
    assert dead != Same(other) and dead == dead


class Scaled(nn.Linear):
    def forward(self, x, by):
        return super().forward(x) * by.k


class Silent(SimpleNamespace):
    def __repr__(self):
        return "the same"


def test_an_argument_whose_text_is_the_same_is_seen():
    module, (x, _) = Scaled(WIDTH, 3), batch()
    made = engine([module])
    one, three = (made.step(Call((x,), {"by": Silent(k=k)}), training=False) for k in (1, 3))
    torch.testing.assert_close(three, 3 * one)
