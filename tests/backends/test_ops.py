"""The communication operators: fake forms run nothing, real ones reach the installed transport."""

from threading import Thread

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe import _compat
from funpipe._errors import TransportError
from funpipe._typing import TensorType
from funpipe.backends import ops
from funpipe.backends.installed import Endpoint, install, new_handle, uninstall
from funpipe.backends.transport import Message
from funpipe.runtime.transports import InProcess

X = torch.arange(6.0).reshape(2, 3)
THERE = Message(0, 0, 1, TensorType.of(X), "0->1")
BACK = Message(1, 1, 0, TensorType((3, 2), (1, 3), torch.float32), "1->0")
found = getattr(torch.ops, ops.NAMESPACE)


def type_of(message):
    return (list(message.type.shape), list(message.type.stride), message.type.dtype, torch.device("cpu"))


@pytest.fixture
def handles():
    hub, made = InProcess(2, timeout=20), (new_handle(), new_handle())
    for rank, handle in enumerate(made):
        install(handle, Endpoint(hub.endpoint(rank), (THERE, BACK)))
    yield made
    for handle in made:
        uninstall(handle)


def as_rank(results, rank, play):
    """A thread that plays a rank; what it returns is laid down by rank."""

    def body():
        results[rank] = play()

    return Thread(target=body, daemon=True)


def in_threads(*plays):
    results = {}
    threads = [as_rank(results, rank, play) for rank, play in enumerate(plays)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_two_ranks_exchange_through_the_operators(handles):
    def first():
        token = torch.zeros(1)
        found.post_recv(token, handles[0], BACK.id)
        found.send(X, token, handles[0], THERE.id)
        answer = found.wait_recv(token, handles[0], BACK.id, *type_of(BACK))
        found.wait_send(X, token, handles[0], THERE.id)
        return answer

    def second():
        token = torch.zeros(1)
        found.post_recv(token, handles[1], THERE.id)
        got = found.wait_recv(token, handles[1], THERE.id, *type_of(THERE))
        answer = (got + 1).t()
        found.send(answer, token, handles[1], BACK.id)
        found.wait_send(answer, token, handles[1], BACK.id)
        return got

    results = in_threads(first, second)
    assert torch.equal(results[1], X)
    assert torch.equal(results[0], (X + 1).t()) and results[0].stride() == (1, 3)


def test_a_sum_over_the_ranks_is_written_in_place(handles):
    def play(rank):
        x = torch.full((3,), float(rank + 1))
        found.all_reduce(x, torch.zeros(1), handles[rank], "pp")
        return x

    assert in_threads(lambda: play(0), lambda: play(1))[0].tolist() == [3.0, 3.0, 3.0]


def test_fake_forms_run_nothing():
    """No transport is installed under this handle: a real form would raise."""
    with _compat.fake_mode():
        token, x = torch.zeros(1), torch.zeros(2, 3)
        found.send(x, token, 0, 0)
        found.wait_send(x, token, 0, 0)
        found.post_recv(token, 0, 1)
        found.all_reduce(x, token, 0, "dp")
        got = found.wait_recv(token, 0, 1, *type_of(BACK))
    assert TensorType.of(got) == BACK.type


def test_tracing_runs_nothing_and_keeps_the_order():
    def play(x, token):
        found.post_recv(token, 0, 1)
        found.send(x, token, 0, 0)
        got = found.wait_recv(token, 0, 1, *type_of(BACK))
        found.wait_send(x, token, 0, 0)
        return got

    graph = make_fx(play, tracing_mode="fake")(X, torch.zeros(1)).graph
    called = [n.target.__name__ for n in graph.nodes if n.op == "call_function"]
    assert called == ["post_recv.default", "send.default", "wait_recv.default", "wait_send.default"]


@pytest.mark.parametrize("name", ops.NAMES)
def test_every_operator_writes_to_the_token(name):
    arguments = {a.name: a for a in getattr(found, name).default._schema.arguments}
    assert arguments["token"].alias_info.is_write


@pytest.mark.parametrize("name", ops.NAMES)
def test_no_operator_returns_what_it_was_given(name):
    assert [r.alias_info for r in getattr(found, name).default._schema.returns if r.alias_info] == []


def test_the_end_of_a_send_takes_what_was_sent():
    assert [a.name for a in found.wait_send.default._schema.arguments] == ["x", "token", "transport", "message"]


def test_without_a_transport_the_real_form_says_so():
    with pytest.raises(TransportError, match="no transport is installed under handle 0: call the step only in"):
        found.send(X, torch.zeros(1), 0, 0)
