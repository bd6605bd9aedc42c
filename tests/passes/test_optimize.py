import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from funpipe import optim
from funpipe._errors import ProgramError
from funpipe._typing import MeshShape
from funpipe.passes import Pass, default_passes, early_receives, free_values, optimize, release_sends
from funpipe.programs import Programs
from funpipe.programs.instructions import PostRecv
from funpipe.schedules import GPipe, OneFOneB, merge
from tests.programs.edits import find, remove
from tests.programs.models import MODELS, batch_of, buffers_of, chain, normalized, params_of, programs_of
from tests.programs.worlds import World, same_bits

CLIPPED = optim.chain(optim.clip_by_global_norm(0.1), optim.adamw(1e-2))


def after_two_steps(loss_fn, programs):
    world = World(programs, params_of(loss_fn), CLIPPED, buffers_of(loss_fn))
    for seed in range(2):
        results = world.step(batch_of(programs.num_microbatches * programs.mesh.dp, seed=seed))
    return world.params() | results


@given(
    st.sampled_from([*MODELS, normalized]),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1, 2),
    st.sampled_from([GPipe(), OneFOneB(), None]),
)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_passes_keep_the_bits(loss_fn, num_stages, count, dp, schedule):
    table = schedule.table(num_stages, count) if schedule else merge(OneFOneB().table(num_stages, count))
    options = {"mesh": MeshShape(table.num_ranks, dp), "optimizer": CLIPPED}
    plain = programs_of(loss_fn, num_stages, schedule=table, **options)
    assert same_bits(after_two_steps(loss_fn, plain), after_two_steps(loss_fn, optimize(plain)))


def test_the_default_passes_in_their_order():
    assert [each.fn for each in default_passes] == [early_receives, release_sends, free_values]


def test_what_a_pass_breaks_is_caught_after_it():
    def forgets(programs):
        return remove(programs, find(programs, PostRecv, rank=1))

    with pytest.raises(ProgramError, match="has no post_recv on rank 1"):
        optimize(programs_of(chain, 2), (default_passes[0], Pass("forgets", forgets, over=Programs)))


def test_passes_leave_what_they_are_given():
    plan = programs_of(chain, 3)
    before = plan.as_text()
    optimize(plan)
    assert plan.as_text() == before


def test_programs_are_verified_once_after_each_pass(monkeypatch):
    seen = []
    monkeypatch.setattr(sys.modules["funpipe.passes.compose"], "check_programs", seen.append)
    found = optimize(programs_of(chain, 2))
    assert len(seen) == len(default_passes)
    assert seen[-1] is found
