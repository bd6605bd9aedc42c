from dataclasses import replace

import pytest
import torch

from funpipe import optim
from funpipe._errors import ProgramError
from funpipe._typing import MeshShape
from funpipe.programs import parse
from funpipe.programs.instructions import PostRecv, Send
from tests.programs.models import batch_of, chain, params_of, programs_of
from tests.programs.worlds import World


def without(programs, rank, kind):
    """The programs with all instructions of a kind taken out of one rank."""
    program = programs.programs[rank]
    kept = tuple(i for i in program.instructions if not isinstance(i, kind))
    edited = [replace(p, instructions=kept) if p is program else p for p in programs.programs]
    return replace(programs, programs=tuple(edited))


def deadlock_of(programs):
    world = World(programs, params_of(chain))
    with pytest.raises(ProgramError) as error:
        world.step(batch_of(programs.num_microbatches * programs.mesh.dp))
    return str(error.value)


def test_ranks_that_wait_for_each_other_are_named_with_their_instructions():
    programs = programs_of(chain, 2, 1)
    first = programs.programs[0]
    (send,) = (i for i in first.instructions if isinstance(i, Send))
    late = replace(first, instructions=(*(i for i in first.instructions if i is not send), send))
    lines = [line for p in programs.programs for line in p.as_text().splitlines() if "wait_recv" in line]
    assert deadlock_of(replace(programs, programs=(late, programs.programs[1]))) == (
        f"deadlock: every rank waits: replica 0 rank 0 at `{lines[0]}`; replica 0 rank 1 at `{lines[1]}`. "
        "Check the programs with fp.programs.verify."
    )


def test_a_send_that_is_never_received_blocks_its_wait():
    programs = programs_of(chain, 2, 2)
    line = next(line for line in programs.programs[0].as_text().splitlines() if "wait_send 0" in line)
    assert f"every rank waits: replica 0 rank 0 at `{line}`. " in deadlock_of(without(programs, 1, PostRecv))


def test_every_replica_is_named():
    text = deadlock_of(without(programs_of(chain, 2, 2, mesh=MeshShape(2, 2)), 1, PostRecv))
    assert "replica 0 rank 0 at" in text
    assert "replica 1 rank 0 at" in text


def test_programs_that_update_need_the_optimizer():
    world = World(programs_of(chain, 1, optimizer=optim.sgd(0.1)), params_of(chain), None)
    with pytest.raises(ProgramError, match=r"updates s0_float32, but no optimizer.*pass the one it was lowered with\."):
        world.step(batch_of(3))


def test_inputs_are_not_changed():
    optimizer = optim.sgd(0.1)
    world = World(programs_of(chain, 2, optimizer=optimizer), params_of(chain), optimizer)
    before = [{n: t.clone() for n, t in rank.items()} for rank in world.state[0]]
    held = world.state[0]
    world.step(batch_of(3))
    assert all(torch.equal(rank[n], was[n]) for rank, was in zip(held, before, strict=True) for n in was)


def test_programs_read_from_text_compute_the_same():
    programs = programs_of(chain, 3)
    again = replace(programs, programs=tuple(parse(p.as_text()) for p in programs.programs))
    worlds = [World(p, params_of(chain)) for p in (programs, again)]
    losses = [w.step(batch_of(3))["loss"] for w in worlds]
    assert torch.equal(*losses)
