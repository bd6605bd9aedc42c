"""The backends that walk the list, all ranks as threads: `interpret` to the bit, `regions` close to it."""

import pytest
import torch

from funpipe import optim
from funpipe.backends import Request, compile
from funpipe.passes import optimize
from tests.backends.ranks import Ranks, example_of, expected, inputs_of
from tests.programs.models import MODELS, chain, programs_of

CLIPPED = optim.chain(optim.clip_by_global_norm(0.1), optim.adamw(1e-2))


@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
def test_interpreting_each_rank_by_itself_gives_the_interpreters_bits(loss_fn):
    programs = optimize(programs_of(loss_fn, 3, 4, optimizer=CLIPPED))
    inputs = inputs_of(programs, loss_fn)
    found = Ranks("interpret", programs, CLIPPED).run(inputs)
    for rank, values in enumerate(expected(programs, inputs, CLIPPED)):
        assert all(torch.equal(found[rank][n], value) for n, value in values.items())
        assert found[rank]["step"] == 1


def test_compiled_regions_give_the_same_numbers_without_gradients():
    programs = optimize(programs_of(chain, 2, 3, optimizer=CLIPPED))
    inputs = inputs_of(programs, chain)
    given = [{n: t.requires_grad_(t.is_floating_point()) for n, t in values.items()} for values in inputs]
    found = Ranks("regions", programs, CLIPPED).run(given)
    for rank, values in enumerate(expected(programs, inputs, CLIPPED)):
        torch.testing.assert_close({n: found[rank][n].detach() for n in values}, values, check_stride=False)
    assert not found[1]["loss"].requires_grad


def test_a_walk_prints_its_program():
    programs = optimize(programs_of(chain, 2, 3))
    made = compile("interpret", programs, Request(1, 0), None, example_of(programs, 1))
    assert made.as_text() == programs.programs[1].as_text()


def test_an_open_autocast_changes_no_bit():
    programs = programs_of(chain, 1, 3, optimizer=CLIPPED)
    (given,) = inputs_of(programs, chain)
    inputs = [given[n] for n in programs.programs[0].inputs]
    walk = compile("interpret", programs, Request(0, 0), CLIPPED, inputs)
    wanted = walk(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = walk(inputs)
        assert torch.is_autocast_enabled("cpu")
    assert all(torch.equal(found[n], value) for n, value in wanted.items())
