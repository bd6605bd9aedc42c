"""A rank that stops in the middle of a step, or before it, is an error of the others after the mesh's timeout."""

import time
import warnings

import pytest

import funpipe as fp
from tests.api.models import batch_of, params_of, step_of
from tests.api.ranks import raised

SECONDS = 1.5


def stuck(same_host, where):
    """What each rank raises when rank 1 sleeps, or fails, before it sends its third backward; or sleeps at first."""
    warnings.simplefilter("error")
    mesh = fp.mesh(pp=2, device="cpu", timeout=60 if where == "failed" else SECONDS, same_host=same_host)
    step = step_of(mesh=mesh)
    state, _ = step(step.init(params_of(), batch_of()), batch_of())
    transport = step._engine.transport
    send = transport.send

    def late(tensor, message):
        if message.made_by == "1B2" and where == "failed":
            raise KeyboardInterrupt
        if message.made_by == "1B2":
            time.sleep(2 * SECONDS)
        send(tensor, message)

    if mesh.pp_rank == 1 and where != "before":
        transport.send = late
    if mesh.pp_rank == 1 and where == "before":
        time.sleep(2 * SECONDS)
    began = time.monotonic()
    try:
        found = raised(step, state, batch_of())
    except KeyboardInterrupt:
        found = "KeyboardInterrupt", ""
    assert time.monotonic() - began < 30
    again = raised(step, state, batch_of())
    time.sleep(2 * SECONDS if mesh.pp_rank == 0 else 0)  # rank 0 holds the store
    return found, again, state.status


@pytest.mark.parametrize("same_host", ["shared memory", "network"])
def test_a_stuck_receive_names_rank_instruction_edge_value_and_cell(same_host):
    (kind, text), (_, again), status = fp.launch(stuck, 2, same_host, "inside", timeout=60)[0]
    assert kind == "TransportError"
    assert text.startswith("rank 0 receiving '1->0 mb 2 value ")
    assert "rank 1 to rank 0, in the schedule from 1B2 for 0B2): rank 1 has not sent it within 1.5 s, so wait_r" in text
    assert text.endswith(
        "compare what the two ranks do with programs[rank].as_text(), or allow more time with timeout="
    )
    assert status == "unfinished"
    assert "did not finish" in again


def test_a_rank_that_does_not_begin_the_step_is_waited_for_no_longer():
    (kind, text), (_, again), status = fp.launch(stuck, 2, "shared memory", "before", timeout=60)[0]
    assert kind == "TransportError"
    assert "rank 0: the agreement on a step over 'world' (global ranks [0, 1]) failed" in text
    assert "1.5 s without a word from global rank 1" in text
    assert status == "ready"
    assert "an earlier step on this mesh did not finish" in again


def test_a_rank_whose_step_failed_is_not_waited_for_until_the_timeout():
    found = fp.launch(stuck, 2, "shared memory", "failed", timeout=60)
    (kind, text), (_, again), status = found[0]
    assert kind == "TransportError"
    assert "in the schedule from 1B2 for 0B2): the connection to rank 1 failed (the other end has hung up)" in text
    assert text.endswith("look for the first error of rank 1, it ended or broke off before this one")
    assert status == "unfinished"
    for rank in found:
        assert "an earlier step on this mesh did not finish" in rank[1][1]
