"""The CSV files against torch.distributed.pipelining itself: what it reads, what it writes, what it adds."""

import pytest
from hypothesis import given
from torch.distributed.pipelining import schedules as theirs

from funpipe.schedules import Table
from funpipe.schedules.registry import SCHEDULES
from tests.schedules.tables import tables


class Stage(theirs._PipelineStageBase):
    """As much of a stage as a schedule asks for when it is made."""

    def __init__(self, num_stages, num_ranks):
        self.submod, self.num_stages, self.group_size = None, num_stages, num_ranks
        self.group_rank, self.group, self.stage_index = 0, None, 0


Stage.__abstractmethods__ = frozenset()  # what they would do is asked for when a schedule runs


def runtime_of(table):
    stage = Stage(table.num_stages, table.num_ranks)
    return theirs._PipelineScheduleRuntime([stage], table.num_microbatches, scale_grads=False)


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
