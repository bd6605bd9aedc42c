import re

import pytest
import torch

from funpipe import optim
from funpipe._errors import ProgramError
from funpipe._typing import MeshShape
from funpipe.programs import lower
from funpipe.programs.instructions import Accumulate, AllReduce, Microbatch, Run, Scale, Send, Squares, Update, WaitSend
from funpipe.schedules import GPipe, OneFOneB, Table, Task, merge
from tests.programs.models import chain, normalized, programs_of, skipping, stages_of, tied, traced_of, weighted


def error_of(traced, stages, table, **options):
    with pytest.raises(ProgramError) as error:
        lower(traced, stages, table, **options)
    return str(error.value)


def kinds(program):
    return [type(i).__name__ for i in program.instructions if not isinstance(i, Accumulate | Microbatch)]


def words(program):
    """Each line up to its first value: names of values are those of the graph."""
    lines = [line.rpartition(" = ")[2] for line in program.as_text().splitlines()[1:]]
    return [re.sub(r" [\w.]+@.*| \(.*", "", line) for line in lines]


def test_the_first_of_two_ranks_reads_as_its_row():
    #  rank 0 | 0F0 0F1 .   0B0 .   0B1
    #  rank 1 | .   1F0 1B0 1F1 1B1 .
    program = programs_of(chain, 2, 2, optimizer=optim.sgd(0.1, momentum=0.9)).programs[0]
    head = "rank 0 stages (0) inputs (bucket.s0_float32 slot.momentum.s0_float32 step batch.x) outputs ()"
    assert program.as_text().splitlines()[0] == head
    assert words(program) == [
        "zero", "zero",
        "slice 0", "run F0 0", "send 0",
        "slice 1", "run F0 1", "send 1",
        "post_recv 2", "wait_recv 2", "run B0 0", "accumulate",
        "post_recv 3", "wait_recv 3", "run B0 1", "accumulate",
        "flatten s0_float32", "scale grad.s0_float32 2", "update s0_float32",
        "wait_send 0", "wait_send 1",
    ]  # fmt: skip


def test_messages_name_both_ranks_the_microbatch_and_the_value():
    programs = programs_of(chain, 2, 2)
    message = programs.messages[1]
    (value,) = [i.value for i in programs.programs[0].instructions if isinstance(i, Send) and i.message == 1]
    assert (message.src, message.dst, message.type.shape) == (0, 1, (2, 6))
    assert str(message) == f"message 1 (0->1 mb 1 value {value})"


def test_a_value_is_sent_once_to_each_rank_that_reads_it():
    program = programs_of(skipping, 3, 1, GPipe()).programs[0]
    sent = [i.value for i in program.instructions if isinstance(i, Send)]
    assert len(sent) == 2
    assert len(set(sent)) == 1


def test_stages_of_one_rank_send_nothing():
    programs = programs_of(tied, 4, schedule=merge(OneFOneB().table(4, 3)))
    assert programs.messages == ()
    assert {"Send", "PostRecv"}.isdisjoint(kinds(programs.programs[0]))


def test_every_send_is_waited_for_at_the_end():
    for program in programs_of(tied, 3, optimizer=optim.sgd(0.1)).programs:
        sends = [i.message for i in program.instructions if isinstance(i, Send)]
        waits = [i.message for i in program.instructions[-len(sends) :] if isinstance(i, WaitSend)]
        assert waits == sends


def test_one_replica_on_one_rank_reduces_nothing():
    programs = programs_of(weighted, 1, optimizer=optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(0.1)))
    assert "AllReduce" not in kinds(programs.programs[0])


def test_replicas_and_ranks_reduce_gradients_weight_and_norm():
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(0.1))
    programs = programs_of(weighted, 2, mesh=MeshShape(2, 2), optimizer=optimizer)
    tail = [i for i in programs.programs[1].instructions if isinstance(i, AllReduce | Scale | Squares | Update)]
    assert tail == [
        AllReduce("grad.s1_float32", "dp"),
        AllReduce("weight", "world"),
        Scale("grad.s1_float32", "weight"),
        Squares(("s1_float32",)),
        AllReduce("squares", "pp"),
        Update("s1_float32", (), True),
    ]


def test_gradients_are_results_without_an_optimizer():
    programs = programs_of(chain, 2)
    assert programs.programs[0].outputs == {"grad.s0_float32": "grad.s0_float32"}
    assert set(programs.programs[1].outputs) == {"grad.s1_float32", "loss"}


def test_leaves_of_different_labels_are_in_different_buckets():
    optimizer = optim.adamw(1e-2, weight_decay=0.1, decay_mask=lambda name, leaf: leaf.dim() > 1)
    buckets = programs_of(chain, 2, optimizer=optimizer).layout.buckets
    assert [tuple(slot.leaf for slot in b.slots) for b in buckets if b.stage == 0] in (
        [("b0",), ("w0",)],
        [("w0",), ("b0",)],
    )
    assert len({b.name for b in buckets}) == len(buckets)


def test_leaves_are_aligned_and_buckets_divide_among_the_replicas():
    layout = programs_of(chain, 1, mesh=MeshShape(1, 3)).layout
    (bucket,) = layout.buckets
    assert all(slot.offset * 4 % 64 == 0 for slot in bucket.slots)
    assert bucket.size % 3 == 0


def test_another_number_of_stages_than_the_schedule_has():
    traced = traced_of(chain)
    text = error_of(traced, stages_of(traced, 3), GPipe().table(2, 4))
    assert text == (
        "the schedule's table has 2 stages, but the model is cut into 3: cut it into 2, or use a schedule with 3 "
        "stages on 2 ranks."
    )


def test_another_number_of_ranks_than_the_mesh_has():
    traced = traced_of(chain)
    text = error_of(traced, stages_of(traced, 2), GPipe().table(2, 4), mesh=MeshShape(4))
    assert text == "the schedule's table has 2 ranks, but the mesh has pp=4: make the table with num_ranks=4."


def test_buffers_need_forwards_in_order():
    traced = traced_of(normalized)
    row = [Task("F", 0, 1), Task("F", 0, 0), Task("B", 0, 0), Task("B", 0, 1)]
    text = error_of(traced, stages_of(traced, 1), Table.from_rows([row], placement=(0,), num_microbatches=2))
    assert "'buffer.norms.0.num_batches_tracked' is updated from one microbatch to the next" in text
    assert text.endswith("use a schedule whose F tasks ascend (1f1b, gpipe).")


def test_the_digest_is_that_of_the_plan():
    assert programs_of(chain, 2, 3).digest() == programs_of(chain, 2, 3).digest()
    others = [programs_of(chain, 2, 3, GPipe()), programs_of(chain, 2, 4), programs_of(chain, 2, dtype=torch.float64)]
    assert len({p.digest() for p in (programs_of(chain, 2, 3), *others)}) == 4


def test_each_microbatch_is_cut_off_once_on_each_rank_that_reads_it():
    for program in programs_of(chain, 2, 3).programs:
        assert [i.index for i in program.instructions if isinstance(i, Microbatch)] == [0, 1, 2]


def test_only_regions_that_run_are_in_the_plan():
    programs = programs_of(chain, 2, 3)
    ran = {i.region for p in programs.programs for i in p.instructions if isinstance(i, Run)}
    assert ran == set(programs.regions)
