"""A sent tensor is not written to before its bytes have left, and `WaitSend` is what keeps it.

    rank 0                              rank 1
    h@0 = run F0 0                      (sleeps)
    send h@0
    h@1 = run F0 1      <- the compiler may put h@1 into the memory of h@0: nothing reads h@0 any more,
    send h@1               if it were not for the `wait_send h@0` at the end
                                        post_recv h@0 ...

The regions are fused into the step here, as numerics="fast" does: then the compiler plans the memory of both.
"""

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import funpipe as fp
from funpipe._typing import MeshShape, TensorType
from funpipe.backends import Request, compile
from funpipe.backends.installed import Endpoint, install, new_handle
from funpipe.passes import early_receives, free_values, release_sends
from funpipe.programs import Program, Programs, lower, verify
from funpipe.programs.instructions import WaitSend
from funpipe.runtime import Distributed
from funpipe.schedules import GPipe, forward_only
from funpipe.stages import partition, resolve
from funpipe.tracing import trace

DEPTH, MICROBATCHES = 8, 3
MIB = 2**20 // 4
"""Elements of float32."""


def large(params: dict[str, Tensor], x: Tensor) -> fp.Out:
    """A product of as many elements as rows times columns is sent; each of them is its row's number."""
    h = fp.mark_stage_end(x @ params["w"])
    return fp.Out((h * params["v"]).mean(), aux={"least": fp.cat(h.amin()[None]), "largest": fp.cat(h.amax()[None])})


def programs_of(elements: int) -> Programs:
    """A forward alone on two ranks, with `elements` in each message; lowered, and not yet passed on."""
    params = {"w": torch.empty(DEPTH, elements // 1024, device="meta"), "v": torch.empty((), device="meta")}
    traced = trace(large, params, torch.empty(1024, DEPTH, device="meta"), differentiate=False)
    stages = partition(traced, resolve(None, traced)(traced))
    return lower(traced, stages, forward_only(GPipe().table(2, MICROBATCHES)), mesh=MeshShape(2))


def without_waiting(programs: Programs) -> Programs:
    """The same with every `WaitSend` taken out."""

    def taken_out(_: Programs, program: Program) -> Program:
        return replace(program, instructions=tuple(i for i in program.instructions if not isinstance(i, WaitSend)))

    return programs.map(taken_out)


def finished(programs: Programs) -> Programs:
    """The default passes; not verified, so that a program that is wrong on purpose comes through."""
    return free_values(release_sends(early_receives(programs)))


class Sleepy(Distributed):
    """A transport whose receives begin late."""

    seconds = 0.0

    def post_recv(self, message: Any) -> None:
        time.sleep(self.seconds)
        super().post_recv(message)


def right_steps(elements: int, times: int, *waiting: bool) -> list[int]:
    """On each of two ranks: in how many steps rank 1 received every microbatch as it was sent, waiting or not."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    end = Sleepy(fp.mesh(pp=2, device="cpu", timeout=300))
    end.seconds = 0.02
    return [sum(_steps(elements, times, waits, end)) for waits in waiting]


def _steps(elements: int, times: int, waits: bool, end: Distributed) -> Iterator[bool]:
    """Compiles this rank's program and runs it; on rank 0 every step is right."""
    plain = programs_of(elements)
    programs = finished(plain if waits else without_waiting(plain))
    if waits:
        verify(programs)
    program, handle = programs.programs[end.rank], new_handle()
    install(handle, Endpoint(end, programs.messages))
    inputs = [_input(n, programs.types[n]) for n in program.inputs]
    run = compile("step", programs, Request(end.rank, handle, fuse=True), None, inputs)
    wanted = torch.arange(1.0, MICROBATCHES + 1)
    for _ in range(times):
        found = run(inputs)
        for message in programs.messages:
            if end.sent[message.id]:  # what the program itself did not wait for
                end.wait_send(message)
        yield end.rank == 0 or all(torch.equal(found[f"aux.{n}"], wanted) for n in ("least", "largest"))


def _input(name: str, kind: TensorType) -> Tensor:
    """Microbatch i is rows of i + 1, and the weights add up to one."""
    if name.startswith("batch."):
        numbers = torch.arange(1.0, MICROBATCHES + 1).repeat_interleave(kind.shape[0] // MICROBATCHES)
        return numbers[:, None].expand(kind.shape).contiguous()
    return torch.full(kind.shape, 1 if kind.dtype == torch.int64 else 1 / DEPTH, dtype=kind.dtype)


def test_messages_are_right_if_and_only_if_their_sends_are_waited_for():
    """Compiles: it is the compiler that would use the memory again. 4 MiB to a rank that sleeps, 5 times."""
    _, (waiting, not_waiting) = fp.launch(right_steps, 2, 4 * MIB, 5, True, False, timeout=300)
    assert waiting == 5
    assert not_waiting < 5


@pytest.mark.full
def test_64_mib_are_right_a_hundred_times_and_wrong_where_no_send_is_waited_for():
    _, (waiting, not_waiting) = fp.launch(right_steps, 2, 64 * MIB, 100, True, False, timeout=3000)
    assert waiting == 100
    assert not_waiting == 0
