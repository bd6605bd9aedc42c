from dataclasses import replace

import pytest

from funpipe.backends.joined import Call, joined
from funpipe.passes import optimize
from funpipe.programs import Program
from funpipe.programs.instructions import Accumulate, Free, Run, Zero
from tests.programs.models import MODELS, programs_of

RUN = Run("B0", 3, ("x@3",), ("g@3", "h@3"))
ADD = Accumulate(("acc.w.0",), ("g@3",))
PAIRS = (("acc.w.0", "g"),)


def calls(*instructions):
    return list(joined(Program(0, instructions, (0,), (), {})))


def test_a_run_takes_the_accumulation_of_its_values_with_it():
    assert calls(RUN, ADD) == [Call(RUN, PAIRS)]


def test_freeing_between_them_does_not_part_them():
    assert calls(RUN, Free(("x@3",)), ADD, Free(("g@3",))) == [Call(RUN, PAIRS, ("x@3", "g@3"))]


def test_what_is_freed_belongs_to_the_call_before_it():
    assert calls(RUN, Free(("x@3",)), Free(("h@3",)), ADD) == [Call(RUN, PAIRS, ("x@3", "h@3"))]
    zero = Zero(("acc.v.0",))
    assert calls(RUN, zero, Free(("acc.v.0",))) == [Call(RUN), Call(zero, (), ("acc.v.0",))]


def test_an_accumulation_further_behind_stands_alone():
    between = Zero(("acc.v.0",))
    assert calls(RUN, between, ADD) == [Call(RUN), Call(between), Call(ADD)]


def test_values_of_another_run_are_not_taken():
    other = replace(ADD, values=("k@3",))
    assert calls(RUN, other) == [Call(RUN), Call(other)]


def test_a_run_takes_one_accumulation():
    other = Accumulate(("acc.v.0",), ("h@3",))
    assert calls(RUN, ADD, other) == [Call(RUN, PAIRS), Call(other)]


@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
def test_after_the_passes_no_accumulation_stands_alone(loss_fn):
    for rank in optimize(programs_of(loss_fn, 3, 4)).programs:
        assert not any(isinstance(call.instruction, Accumulate | Free) for call in joined(rank))


@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
def test_all_that_a_program_frees_is_freed_once(loss_fn):
    for rank in optimize(programs_of(loss_fn, 3, 4)).programs:
        freed = [n for call in joined(rank) for n in call.freed]
        assert freed == [n for i in rank.instructions if isinstance(i, Free) for n in i.values]
        assert len(freed) == len(set(freed))
