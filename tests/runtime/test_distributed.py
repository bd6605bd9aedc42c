"""The transport between real processes, each way; one launch for many checks, since each process imports torch."""

import multiprocessing
import os
import socket
import time
import warnings
from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

from funpipe._errors import CheckpointError, MeshError, TransportError
from funpipe._typing import TensorType
from funpipe.backends.transport import Message
from funpipe.runtime import Distributed, checkpoint, launch, mesh

MIB_64 = 16 * 2**20  # elements of float32


def message(id, tensor, src=0, dst=1):
    return Message(id, src, dst, TensorType.of(tensor), f"F {src}->{dst} value v{id}")


def raised(fn, *args, **kwargs):
    """The type and text of the error."""
    try:
        fn(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)
    return None, "no error"


def values(dtype):
    """One tensor of each layout: contiguous, transposed, permuted, with an offset, 0-dim, empty, with size-1 dims."""
    x = (torch.arange(24) % 5).to(dtype)
    return [x, x.view(4, 6).t(), x.view(2, 3, 4).permute(2, 0, 1), x[3:9], x[4], x[:0].view(0, 3), x.view(24, 1, 1).mT]


DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
]


def round_trips(end):
    """Every dtype and layout from rank 0 to 1 and back; returns what did not come back as it was."""
    sent = [x for dtype in DTYPES for x in values(dtype)]
    there = [message(id, x) for id, x in enumerate(sent)]
    back = [message(1000 + id, x, 1, 0) for id, x in enumerate(sent)]
    if end.rank == 1:
        for m in reversed(there):  # by tag, in any order
            end.post_recv(m)
        received = [end.wait_recv(m) for m in there]
        for m, x in zip(back, received, strict=True):
            end.send(x, m)
        for m in back:
            end.wait_send(m)
        return []
    for m, x in zip(there, sent, strict=True):
        end.send(x, m)
    for m in (*there, *back):
        end.wait_send(m) if m.src == 0 else end.post_recv(m)
    received = [end.wait_recv(m) for m in back]
    same = [torch.equal(x, y) and TensorType.of(x) == TensorType.of(y) for x, y in zip(sent, received, strict=True)]
    return [str(m) for m, ok in zip(back, same, strict=True) if not ok]


def other_layout(end):
    """A sender whose strides differ from the plan's: the values still arrive."""
    x = torch.arange(6.0).reshape(2, 3)
    m = message(2000, x)
    if end.rank == 0:
        end.send(x.t().contiguous().t(), m)
        end.wait_send(m)
        return True
    end.post_recv(m)
    return torch.equal(end.wait_recv(m), x)


def large_sends(end, times, wait):
    """64 MiB to a rank that sleeps first; the sender writes into the tensor again, after or without `wait_send`."""
    right = 0
    for n in range(times):
        x = torch.full((MIB_64,), float(n))
        m = message(3000, x)
        if end.rank == 0:
            end.send(x, m)
            if wait:
                end.wait_send(m)
            x.fill_(-1.0)
            if not wait:
                end.wait_send(m)
        else:
            time.sleep(0.05)
            end.post_recv(m)
            right += bool((end.wait_recv(m) == n).all())
    return right


def collectives(end):
    """Sums in several dtypes and layouts, a broadcast and a gather."""
    sums = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.int64):
        x = torch.full((2, 3), end.rank + 1, dtype=dtype).t()
        end.all_reduce(x, "world")
        sums.append(x.unique().tolist())
    scalar = torch.tensor(float(end.rank))
    end.broadcast(scalar, 1, "pp")
    empty = torch.empty(0)
    end.all_reduce(empty, "pp")
    end.broadcast(empty, 0, "pp")
    flags = end.all_gather_start(torch.tensor([True, end.rank == 1]), "pp")
    end.all_reduce(scalar, "dp")  # alone in its group
    return sums, scalar.item(), [t.tolist() for t in flags.wait()]


def misuse(end):
    """Errors that need two processes but no peer."""
    x = torch.ones(2)
    wrong_end = raised(end.send, x, message(0, x, 1 - end.rank, end.rank))
    return wrong_end, raised(end.wait_recv, message(0, x, 1 - end.rank, end.rank)), raised(mesh, pp=3)


def slow_peer(end):
    """Rank 1 never sends; over at once through a short limit."""
    x = torch.ones(2)
    if end.rank == 1:
        time.sleep(1)
        return None
    end.timeout = end.timeout / 1000
    end.post_recv(message(4000, x, 1, 0))
    return raised(end.wait_recv, message(4000, x, 1, 0))


def mixed(place):
    """One rank that keeps to the network: then both do."""
    end = Distributed(replace(place, same_host="network" if place.pp_rank else "shared memory"))
    return list(end.near.channels), round_trips(end), numbers(end)[0]


def no_memory(place):
    """One rank's system has no memory without a name, then the other's refuses it: both ranks use the network."""
    found = []
    for rank, error in enumerate((AttributeError, PermissionError)):
        with patch.object(os, "memfd_create", side_effect=error) if place.pp_rank == rank else nullcontext():
            end = Distributed(place)
        found.append((list(end.near.channels), numbers(end)[0]))
    return found


def both_sizes(end):
    """More than shared memory holds goes one way before a message through the network comes the other way."""
    small, large = torch.ones(2**18), torch.ones(2**18 + 1)
    there, back = [message(7000 + n, small) for n in range(8)], message(7100, large, 1, 0)
    if end.rank == 1:
        for m in there:
            end.post_recv(m)
            end.wait_recv(m)
        end.send(large, back)
        end.wait_send(back)
        return True
    end.post_recv(back)
    for m in there:
        end.send(small, m)
    received = end.wait_recv(back)
    for m in there:
        end.wait_send(m)
    return torch.equal(received, large)


def sum_beside_messages(end):
    """More than shared memory holds is sent by rank 0, then both add in the network, then rank 1 receives."""
    small, large = torch.ones(2**18), torch.ones(2**18 + 1)
    messages = [message(7200 + n, small) for n in range(8)]
    for m in messages:
        end.send(small, m) if end.rank == 0 else end.post_recv(m)
    if end.rank == 0:
        for m in messages:
            end.wait_send(m)
    end.all_reduce(large, "pp")
    right = [end.rank == 0 or torch.equal(end.wait_recv(m), small) for m in messages]
    return sum(right), large.sum().item() / large.numel()


def saves(end, place, folder):
    """Each rank saves its own leaves and one that both have; each loads leaves of the other; and the errors."""
    mine = {f"layers.{end.rank}.weight": torch.arange(4.0).reshape(2, 2) + end.rank, "tied": torch.ones(3)}
    checkpoint.save(f"{folder}/step-1", {"params": mine, "step": 7}, place)
    other = {"params": {f"layers.{1 - end.rank}.weight": torch.zeros(2, 2).t(), "tied": torch.zeros(3)}, "step": 0}
    loaded = checkpoint.load(f"{folder}/step-1", other, place)
    alone = raised(checkpoint.save, f"{folder}/alone", {"step": 1})
    shape = {"params": {"tied": torch.zeros(3 + end.rank)}}
    return loaded, alone, raised(checkpoint.load, f"{folder}/step-1", shape, place)


def many_small(end):
    """More small messages than shared memory has parts for, sent before the first is received; then waited for."""
    sent = [torch.full((3,), float(n)) for n in range(400)]
    messages = [message(5000 + n, x) for n, x in enumerate(sent)]
    if end.rank == 1:
        for m in messages:
            end.post_recv(m)
        return [n for n, m in enumerate(messages) if not torch.equal(end.wait_recv(m), sent[n])]
    for m, x in zip(messages, sent, strict=True):
        end.send(x, m)
    for m in messages:
        end.wait_send(m)
    return []


def much_at_once(end):
    """Both ranks send more than fits into shared memory, and only then receive."""
    x = torch.arange(2.0**17) + end.rank
    mine = [message(6000 + n, x, end.rank, 1 - end.rank) for n in range(20)]
    theirs = [message(6000 + n, x, 1 - end.rank, end.rank) for n in range(20)]
    for m in mine:
        end.send(x, m)
    for m in theirs:
        end.post_recv(m)
    right = sum(torch.equal(end.wait_recv(m), torch.arange(2.0**17) + 1 - end.rank) for m in theirs)
    for m in mine:
        end.wait_send(m)
    return right


def unread(end):
    """Gatherings that nobody waits for, and one that is; what rank 1 sent is read after it has gone on."""
    kept = [end.all_gather_start(torch.tensor([n, end.rank]), "world") for n in range(300)][-1]
    of_one = end.all_gather_start(torch.tensor([7 + end.rank]), "world", [1])
    return [part.tolist() for part in kept.wait()], of_one.wait()[1].tolist()


def numbers(end):
    found = []
    for n in range(3):
        end.tell_number(10 * n - end.rank)
        found.append(end.numbers_told())
    return found


def two_ranks(folder, same_host):
    """Everything between two ranks, in one pair of processes, where a warning is an error."""
    warnings.simplefilter("error")
    place = mesh(pp=2, timeout=60, same_host=same_host)
    end = Distributed(place)
    return {
        "channels": list(end.near.channels),
        "many_small": many_small(end),
        "much_at_once": much_at_once(end),
        "unread": unread(end),
        "numbers": numbers(end),
        "round_trips": round_trips(end),
        "other_layout": other_layout(end),
        "large_sends": large_sends(end, 5, wait=True),
        "too_early": large_sends(end, 3, wait=False),
        "collectives": collectives(end),
        "misuse": misuse(end),
        "mixed": mixed(place),
        "no_memory": no_memory(place),
        "both_sizes": both_sizes(end),
        "sum_beside_messages": sum_beside_messages(end),
        "saves": saves(end, place, folder),
        "slow_peer": slow_peer(end),
    }


@pytest.fixture(scope="module", params=["shared memory", "network"])
def same_host(request):
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory, same_host):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def two(folder, same_host):
    return launch(two_ranks, 2, folder, same_host, timeout=120)


def test_ranks_of_one_host_have_channels_unless_they_use_the_network(two, same_host):
    assert [rank["channels"] for rank in two] == ([[1], [0]] if same_host == "shared memory" else [[], []])


def test_a_rank_that_keeps_to_the_network_is_reached_there(two):
    assert [rank["mixed"] for rank in two] == [([], [], [0, -1])] * 2


def test_a_rank_without_memory_of_its_own_is_reached_through_the_network(two):
    assert [rank["no_memory"] for rank in two] == [[([], [0, -1])] * 2] * 2


def test_a_wait_for_the_network_leaves_room_in_shared_memory(two):
    assert [rank["both_sizes"] for rank in two] == [True, True]
    assert [rank["sum_beside_messages"] for rank in two] == [(8, 2.0)] * 2


def test_a_sender_far_ahead_of_its_receiver(two):
    assert two[1]["many_small"] == []


def test_both_send_before_they_receive(two):
    assert [rank["much_at_once"] for rank in two] == [20, 20]


def test_gatherings_that_nobody_reads_do_not_mix_with_one_that_is_read(two):
    assert [rank["unread"] for rank in two] == [([[299, 0], [299, 1]], [8])] * 2


def test_one_number_of_each_rank(two):
    assert [rank["numbers"] for rank in two] == [[[0, -1], [10, 9], [20, 19]]] * 2


def test_every_dtype_and_layout_comes_back_as_it_was(two):
    assert two[0]["round_trips"] == []


def test_a_tensor_in_another_layout_arrives_in_the_planned_one(two):
    assert two[1]["other_layout"]


def test_large_messages_are_right_when_the_sender_waits(two):
    assert two[1]["large_sends"] == 5


def test_large_messages_are_wrong_when_the_sender_does_not_wait(two):
    assert two[1]["too_early"] < 3


def test_collectives(two):
    expected = ([[3]] * 4, 1.0, [[True, False], [True, True]])
    assert [rank["collectives"] for rank in two] == [expected, expected]


def test_misuse_is_named_on_each_rank(two):
    for rank in (0, 1):
        wrong_end, never_started, wrong_mesh = two[rank]["misuse"]
        assert wrong_end[0] is TransportError
        assert f"must be sent by rank {1 - rank}, but rank {rank} did it" in wrong_end[1]
        assert "call post_recv first, once for each wait" in never_started[1]
        assert wrong_mesh[0] is MeshError
        assert "mesh(pp=3, dp=1) needs pp * dp = 3 processes, but there are 2" in wrong_mesh[1]
        assert "torchrun --nproc-per-node 3 " in wrong_mesh[1]


def test_a_late_peer_is_named(two):
    kind, text = two[0]["slow_peer"]
    assert kind is TransportError
    assert text.startswith(
        "rank 0 receiving 'F 1->0 value v4000' (message 4000, rank 1 to rank 0): rank 1 has not sent"
    )
    assert text.endswith("allow more time with timeout=")


def test_ranks_load_leaves_that_the_other_saved(two):
    for rank in (0, 1):
        loaded = two[rank]["saves"][0]
        weight = loaded["params"][f"layers.{1 - rank}.weight"]
        assert torch.equal(weight, torch.arange(4.0).reshape(2, 2) + 1 - rank)
        assert weight.stride() == (1, 2)
        assert torch.equal(loaded["params"]["tied"], torch.ones(3))
        assert loaded["step"] == 7


def test_an_error_of_one_rank_is_raised_on_all(two):
    texts = [rank["saves"][2] for rank in two]
    assert {kind for kind, _ in texts} == {CheckpointError}
    assert texts[0][1] == f"rank 1: {texts[1][1]}"
    assert "'params.tied' is torch.float32 [3]" in texts[1][1]


def test_saving_without_the_mesh_is_refused_when_there_are_other_processes(two):
    assert two[0]["saves"][1][0] is CheckpointError
    assert two[0]["saves"][1][1].endswith("pass mesh= to save together")


def test_one_process_loads_what_two_saved(two, folder):
    layers = {f"layers.{rank}.weight": torch.empty(2, 2, device="meta") for rank in (0, 1)}
    loaded = checkpoint.load(checkpoint.latest(folder), {"params": layers, "step": 0})
    assert [loaded["params"][f"layers.{rank}.weight"][0, 0].item() for rank in (0, 1)] == [0.0, 1.0]
    assert loaded["step"] == 7


def four_ranks(folder, same_host):
    """A mesh of two replicas of two ranks."""
    warnings.simplefilter("error")
    place = mesh(pp=2, dp=2, timeout=60, same_host=same_host)
    end = Distributed(place)
    rank = dist.get_rank()
    sums = {}
    for group in ("pp", "dp", "world"):
        x = torch.tensor([2.0**rank])
        end.all_reduce(x, group)
        sums[group] = x.item()
    x = torch.tensor(float(rank))
    if place.pp_rank == 0:
        end.send(x, message(0, x))
        end.wait_send(message(0, x))
    else:
        end.post_recv(message(0, x))
        x = end.wait_recv(message(0, x))
    checkpoint.save(folder / "one", {f"leaf{place.pp_rank}": torch.ones(2), "step": 3}, place)
    written = checkpoint.load(folder / "one", {"leaf0": torch.zeros(2), "leaf1": torch.zeros(2), "step": 0}, place)
    place.close()
    return rank, place.pp_rank, place.dp_rank, sums, x.item(), written["leaf1"].sum().item(), dist.is_initialized()


def test_a_mesh_of_replicas(tmp_path, same_host):
    results = launch(four_ranks, 4, tmp_path, same_host, timeout=120)
    assert [(rank, pp, dp) for rank, pp, dp, *_ in results] == [(0, 0, 0), (1, 1, 0), (2, 0, 1), (3, 1, 1)]
    assert [sums["pp"] for *_, sums, _, _, _ in results] == [3, 3, 12, 12]
    assert [sums["dp"] for *_, sums, _, _, _ in results] == [5, 10, 5, 10]
    assert [sums["world"] for *_, sums, _, _, _ in results] == [15] * 4
    assert [got for *_, got, _, _ in results] == [0, 0, 2, 2]
    assert [total for *_, total, _ in results] == [2.0] * 4
    assert not any(still for *_, still in results)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["one"]


def groups_of_edges(same_host):
    """Three ranks with a group for each edge, as on GPUs; edges are opened in two goes."""
    place = mesh(pp=3, timeout=60, same_host=same_host)
    end = Distributed(place)
    end.network.apart = True
    x = torch.arange(2.0**19)  # too large for shared memory
    plan = [message(n, x, src, dst) for n, (src, dst) in enumerate([(2, 0), (0, 1), (0, 2), (0, 1)])]
    end.open(plan[:2])
    refused = raised(end.send if end.rank == 0 else end.post_recv, *([x] if end.rank == 0 else []), plan[2])
    end.open(plan)
    for m in plan:
        if m.dst == end.rank:
            end.post_recv(m)
    for m in plan:
        if m.src == end.rank:
            end.send(x + m.id, m)
    right = {m.id: bool((end.wait_recv(m) == x + m.id).all()) for m in plan if m.dst == end.rank}
    for m in plan:
        if m.src == end.rank:
            end.wait_send(m)
    members = {edge: dist.get_process_group_ranks(group) for edge, group in end.network.groups.items()}
    distinct = len({id(group) for group in end.network.groups.values()})
    return right, members, distinct, refused if end.rank != 1 else None


@pytest.fixture(scope="module")
def edges(same_host):
    return launch(groups_of_edges, 3, same_host, timeout=120)


def test_each_edge_may_have_a_group_of_its_own(edges):
    """A receive that is posted early on one of them keeps nothing waiting on another."""
    found = edges
    assert [right for right, *_ in found] == [{0: True}, {1: True, 3: True}, {2: True}]
    assert found[0][1] == {(0, 1): [0, 1], (0, 2): [0, 2], (2, 0): [0, 2]}
    assert [sorted(members) for _, members, _, _ in found[1:]] == [[(0, 1)], [(0, 2), (2, 0)]]
    assert all(distinct == len(members) for _, members, distinct, _ in found)


def test_an_edge_that_was_not_opened_is_named(edges):
    for rank, (_, _, _, refused) in enumerate(edges):
        if rank != 1:
            assert refused[0] is TransportError
            assert "no communicator from rank 0 to rank 2 was opened before the step" in refused[1]


def dies(rank, port, told, same_host):
    """Rank 1 of 3 ends without a word while rank 0 waits for it, and rank 2 for a small sum and a large one."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    end = Distributed(mesh(pp=3, timeout=60, same_host=same_host))
    x = torch.ones(2)
    if rank == 1:
        time.sleep(0.2)
        os._exit(1)
    if rank == 0:
        end.post_recv(message(5, x, 1, 0))
        told.put((rank, raised(end.wait_recv, message(5, x, 1, 0))))
        time.sleep(1)  # it holds the store
    else:
        large = end.all_reduce_start([torch.ones(2**18)], "sum", "pp")
        told.put((rank, raised(end.all_reduce, x, "pp")))
        told.put(("large", raised(large.wait)))


def test_a_dead_rank_ends_the_others_with_an_error_that_names_it(same_host):
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    told = context.SimpleQueue()
    processes = [context.Process(target=dies, args=(rank, port, told, same_host)) for rank in range(3)]
    for process in processes:
        process.start()
    texts = dict(told.get() for _ in range(3))
    for process in processes:
        process.join(30)
    assert texts[0][0] is texts[2][0] is TransportError
    assert "receiving 'F 1->0 value v5'" in texts[0][1]
    assert texts[0][1].endswith("look for the first error of rank 1, it ended or broke off before this one")
    for sum in (2, "large"):
        assert texts[sum][0] is TransportError
        assert "all_reduce over 'pp' (global ranks [0, 1, 2]) failed" in texts[sum][1]


def hundred():
    """The full count of the check above."""
    end = Distributed(mesh(pp=2))
    return large_sends(end, 100, wait=True)


@pytest.mark.full
def test_large_messages_are_right_a_hundred_times():
    assert launch(hundred, 2)[1] == 100
