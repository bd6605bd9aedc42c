"""Schedules before anything runs: their order, actions, simulation and pictures."""

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from tests.interop.pipelining.broken.cases import Interface, case, returns

RANKS, MICROBATCHES = 2, 3


def stages(interface: Interface, count: int) -> list[Any]:
    """Stages that know nothing but their numbers, as tests of schedules make them; rank 0 has `count` of them."""

    class Bare(interface.module("stage")._PipelineStageBase):
        def __init__(self, index: int) -> None:
            self.submod, self.num_stages, self.stage_index = nn.Identity(), count * RANKS, index
            self.group_size, self.group_rank, self.group = RANKS, 0, None

        def _prepare_forward_infra(self, *args: Any) -> None: ...

        def _prepare_backward_infra(self, *args: Any) -> None: ...

        def _create_grad_recv_info(self, *args: Any) -> None: ...

    return [Bare(index * RANKS) for index in range(count)]


def schedule(interface: Interface, name: str, microbatches: int = MICROBATCHES) -> Any:
    """A schedule by its class's name."""
    one = name in ("ScheduleGPipe", "Schedule1F1B")
    made = stages(interface, 1 if one else 2)
    return interface.schedule(name, made[0] if one else made, microbatches)


def actions(interface: Interface, text: str) -> list[Any]:
    """A rank's actions from their text form."""
    read = interface.module("schedules")._Action.from_str
    return [read(cell) for cell in text.split()]


@case("3b.8a", returns([0, 1, 2]))
def the_order_of_1f1b_has_every_microbatch_on_the_last_rank(interface: Interface) -> list[int]:
    row = schedule(interface, "Schedule1F1B").pipeline_order[RANKS - 1]
    forward = interface.module("schedules").F
    return [action.microbatch_index for action in row if action is not None and action.computation_type == forward]


@case("3b.8b", returns([True, True]))
def the_last_rank_waits_before_its_first_task(interface: Interface) -> list[bool]:
    names = ("ScheduleGPipe", "Schedule1F1B")
    return [schedule(interface, name).pipeline_order[RANKS - 1][0] is None for name in names]


@case("3b.9a", returns(["1F0", "1F1"]))
def a_schedule_simulates_itself(interface: Interface) -> list[str]:
    row = schedule(interface, "ScheduleInterleaved1F1B", 4)._simulate()[1]
    return [str(action) for action in row if str(action).startswith("1F")][:2]


@case("3b.9b", returns(True))
def two_tasks_at_once_are_simulated(interface: Interface) -> bool:
    module, made = interface.module("schedules"), schedule(interface, "ScheduleDualPipeV", 4)
    rank_of = made.stage_index_to_group_rank.__getitem__
    lowered = module._add_send_recv(made.pipeline_order, stage_to_rank=rank_of, num_stages=2 * RANKS)
    simulated = module._simulate_comms_compute(lowered, rank_of, 2 * RANKS)
    return all(simulated[rank] for rank in range(RANKS))


@case("3b.9c", returns(["0SEND_F0", "1RECV_F0"]))
def the_picture_of_gpipe_shows_messages(interface: Interface) -> list[str]:
    rows = interface.module("_schedule_visualizer").get_schedule_ops("GPipe", RANKS, MICROBATCHES, with_comms=True)
    words = [str(action) for row in rows for action in row]
    return [word for word in ("0SEND_F0", "1RECV_F0") if word in words]


@case("3b.9d", returns(["0F0", None]))
def the_picture_of_gpipe_is_spaced(interface: Interface) -> list[str | None]:
    rows = interface.module("_schedule_visualizer").get_schedule_ops("GPipe", RANKS, MICROBATCHES, add_spacing=True)
    return [None if row[0] is None else str(row[0]) for row in rows]


@case("3b.9e", returns({"0I0": "computation", "0SEND_F0": "communication"}))
def a_trace_file_tells_computation_from_communication(interface: Interface) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        interface.module("schedules")._dump_chrometrace({0: actions(interface, "0I0 0SEND_F0")}, str(file))
        events = json.loads(file.read_text())["traceEvents"]
    return {event["name"]: event["cat"] for event in events}


@case("3b.9f", returns(4))
def merging_backwards_leaves_its_argument_alone(interface: Interface) -> int:
    row = actions(interface, "0F0 0I0 0W0 0F1")
    interface.module("schedules")._merge_bw(row)
    return len(row)


@case("3b.9g", returns([1, 1]))
def adding_messages_leaves_its_argument_alone(interface: Interface) -> list[int]:
    rows = {0: actions(interface, "0F0"), 1: actions(interface, "1F0")}
    interface.module("schedules")._add_send_recv(rows, stage_to_rank=lambda stage: stage, num_stages=2)
    return [len(row) for row in rows.values()]


@case("3a.7a", r"raises Pipe.*Error: .*1RECV_F0.*")
def a_receive_that_nobody_sends_is_refused(interface: Interface) -> str:
    runtime = interface.schedule("_PipelineScheduleRuntime", stages(interface, 1), 1)
    rows = {0: "0F0 0RECV_B0 0B0", 1: "1RECV_F0 1F0 1B0 1SEND_B0"}
    table = {rank: actions(interface, text) for rank, text in rows.items()}
    with contextlib.redirect_stdout(io.StringIO()):
        runtime._prepare_schedule_with_comms(table, format="compute_comms")
    return "accepted"
