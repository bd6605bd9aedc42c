from dataclasses import replace

import pytest

from funpipe.backends.joined import joined
from funpipe.passes import optimize
from funpipe.programs import Program
from funpipe.programs.instructions import Accumulate, Free, Run, Zero
from tests.programs.models import MODELS, programs_of

RUN = Run("B0", 3, ("x@3",), ("g@3", "h@3"))
ADD = Accumulate(("acc.w.0",), ("g@3",))


def program(*instructions):
    return Program(0, instructions, (0,), (), {})


def test_a_run_takes_the_accumulation_of_its_values_with_it():
    assert list(joined(program(RUN, ADD))) == [(RUN, [("acc.w.0", "g")])]


def test_freeing_between_them_does_not_part_them():
    assert list(joined(program(RUN, Free(("x@3",)), ADD, Free(("g@3",))))) == [(RUN, [("acc.w.0", "g")])]


def test_an_accumulation_further_behind_stands_alone():
    between = Zero(("acc.v.0",))
    assert list(joined(program(RUN, between, ADD))) == [(RUN, []), (between, []), (ADD, [])]


def test_values_of_another_run_are_not_taken():
    other = replace(ADD, values=("k@3",))
    assert list(joined(program(RUN, other))) == [(RUN, []), (other, [])]


@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
def test_after_the_passes_no_accumulation_stands_alone(loss_fn):
    for rank in optimize(programs_of(loss_fn, 3, 4)).programs:
        assert not any(isinstance(i, Accumulate | Free) for i, _ in joined(rank))
