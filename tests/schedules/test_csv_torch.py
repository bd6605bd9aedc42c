"""The CSV files against torch.distributed.pipelining itself: what it reads, what it writes, what it adds."""

from collections import defaultdict

import pytest
from hypothesis import given
from torch.distributed.pipelining import schedules as theirs

from funpipe._errors import ScheduleError
from funpipe.schedules import Table
from funpipe.schedules.registry import SCHEDULES
from tests.schedules.tables import tables


class Stage(theirs._PipelineStageBase):
    """As much of a stage as a schedule asks for when it is made."""

    def __init__(self, num_stages, num_ranks):
        self.submod, self.num_stages, self.group_size = None, num_stages, num_ranks
        self.group_rank, self.group, self.stage_index = 0, None, 0


Stage.__abstractmethods__ = frozenset()  # what they would do is asked for when a schedule runs


def runtime_of(table, **options):
    stage = Stage(table.num_stages, table.num_ranks)
    return theirs._PipelineScheduleRuntime([stage], table.num_microbatches, scale_grads=False, **options)


def in_order(table):
    return [table.order(rank) for rank in range(table.num_ranks)]


# A schedule that torch loads has backwards.
TABLES = {name: cls().table(4, 8) for name, cls in SCHEDULES.items() if name != "forwardonly"}
every_schedule = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


@every_schedule
def test_torch_reads_what_is_written(table, tmp_path):
    table.to_csv(tmp_path / "compute.csv")
    runtime = runtime_of(table)
    runtime._load_csv(str(tmp_path / "compute.csv"))
    assert [[str(a or "") for a in row] for row in runtime.pipeline_order.values()] == [
        line.split(",") for line in table.as_csv().splitlines()
    ]


@every_schedule
def test_the_communication_is_what_torch_adds(table, tmp_path):
    """Two ways for torch to get it: adds it to the tasks by itself, or reads it."""
    table.to_csv(tmp_path / "compute.csv")
    table.to_csv(tmp_path / "whole.csv", communication=True)
    adds, reads = runtime_of(table), runtime_of(table)
    adds._load_csv(str(tmp_path / "compute.csv"))
    reads._load_csv(str(tmp_path / "whole.csv"), format="compute_comms")
    assert reads.pipeline_order_with_comms == adds.pipeline_order_with_comms


@every_schedule
@pytest.mark.parametrize("form", ["compute_only", "compute_comms"])
def test_what_torch_writes_is_read(table, form, tmp_path):
    table.to_csv(tmp_path / "compute.csv")
    runtime = runtime_of(table)
    runtime._load_csv(str(tmp_path / "compute.csv"))
    runtime._dump_csv(str(tmp_path / "theirs.csv"), form)
    found = Table.from_csv(tmp_path / "theirs.csv")
    assert in_order(found) == in_order(table)
    assert found.placement == table.placement


@pytest.mark.skipif(not hasattr(theirs, "_defer_recv_ops"), reason="this torch does not defer receives")
@every_schedule
def test_late_receives_are_read_unless_messages_are_swapped(table, tmp_path):
    """Torch's receives take the messages of a rank in the order in which they were sent, whatever was asked for.

    So where `defer_pp_recv` changes the order of two receives from one rank, its runtime trains on swapped values.
    """
    table.to_csv(tmp_path / "compute.csv")
    runtime = runtime_of(table, defer_pp_recv=True)
    runtime._load_csv(str(tmp_path / "compute.csv"))
    runtime._dump_csv(str(tmp_path / "late.csv"))
    if messages(runtime, "SEND") == messages(runtime, "RECV"):
        assert in_order(Table.from_csv(tmp_path / "late.csv")) == in_order(table)
    else:
        with pytest.raises(ScheduleError, match="the next message from rank"):
            Table.from_csv(tmp_path / "late.csv")


def messages(runtime, side):
    """For each pair of ranks the messages from one to the other, by the kind and number of what is in them."""
    found = defaultdict(list)
    for rank, actions in runtime.pipeline_order_with_comms.items():
        for action in actions:
            kind, _, direction = action.computation_type.value.partition("_")
            if kind == side:
                ahead = 1 if (direction == "F") == (side == "SEND") else -1
                peer = runtime.stage_index_to_group_rank[action.stage_index + ahead]
                sender = action.stage_index if side == "SEND" else action.stage_index + ahead
                pair = (rank, peer) if side == "SEND" else (peer, rank)
                found[pair].append((direction, sender, action.microbatch_index))
    return found


@given(tables())
def test_sends_and_receives_are_those_of_torch_for_any_table(table):
    tasks = [[theirs._Action.from_str(str(task)) for task in table.order(rank)] for rank in range(table.num_ranks)]
    filled = {
        rank: theirs._add_reduce_grad(theirs._add_unshard_reshard(row), table.num_microbatches)
        for rank, row in enumerate(tasks)
    }
    added = theirs._add_send_recv(filled, lambda stage: table.placement[stage], table.num_stages)
    text = "".join(",".join(map(str, added[rank])) + "\n" for rank in range(table.num_ranks))
    assert table.as_csv(communication=True) == text
