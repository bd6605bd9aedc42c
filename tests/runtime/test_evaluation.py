"""The forwards that an evaluation runs; what it gives is tested in `tests/api/test_eval_step.py`."""

from dataclasses import replace

import pytest

from funpipe._errors import ScheduleError, StateError
from funpipe.runtime.evaluation import evaluation, forwards
from funpipe.schedules import GPipe, VHalf, merge
from tests.api.models import batch_of, loss_fn, params_of, step_of


def setup_of(schedule, num_microbatches):
    return replace(step_of(schedule=schedule).setup, optimizer=None, num_microbatches=num_microbatches)


@pytest.mark.parametrize("schedule", [GPipe(), VHalf()])
def test_with_the_same_microbatches_the_forwards_keep_their_order(schedule):
    table = schedule.table(2, 4)
    found = forwards(setup_of(schedule, 4), table)
    for rank in range(2):
        assert found.order(rank) == tuple(task for task in table.order(rank) if task.kind == "F")


def test_with_others_every_stage_stays_on_its_rank():
    """In GPipe's order, which there is for any number of microbatches."""
    found = forwards(setup_of(VHalf(), 1), VHalf().table(2, 4))
    assert (found.placement, found.num_microbatches, found.has_backwards) == ((0, 1, 1, 0), 1, False)


def test_a_table_of_ones_own_is_for_its_own_number_of_microbatches():
    table = merge(GPipe().table(2, 4))
    with pytest.raises(ScheduleError, match="num_microbatches=4 only, not 2; use num_microbatches=4"):
        forwards(setup_of(table, 2), table)


def test_the_leaves_stay_where_they_are():
    step = step_of(stages=2)
    step.init(params_of(), batch_of())
    engine = evaluation(replace(step.setup, optimizer=None), step._engine, batch_of())
    assert engine.layout is step.lowered.all.layout and not engine.differentiate
    assert engine.lowered is not None and engine.lowered.cuts == step.lowered.cuts
    assert engine.setup.loss_fn is loss_fn


def test_a_step_without_a_state_has_nothing_to_evaluate():
    step = step_of()
    with pytest.raises(StateError, match=r"call step\.init"):
        evaluation(step.setup, step._engine, batch_of())
