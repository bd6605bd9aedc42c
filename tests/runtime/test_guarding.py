"""Which of the traces of a step holds for a batch."""

import pytest
import torch

from funpipe._errors import BatchError
from funpipe.functional import Out
from funpipe.runtime.guarding import Guarded, unchanged
from funpipe.runtime.inputs import BatchInputs
from funpipe.tracing import trace

PARAMS = {"w": torch.ones(3, 2)}


def batch(value, rows=4):
    return {"x": torch.full((rows, 3), float(value))}


def inputs(value, rows=4):
    return BatchInputs.of(batch(value, rows), 2, 0)


def loss(params, batch):
    scale = 2 if batch["x"].max() > 1 else 1
    if scale == 2 and batch["x"].max() > 5:
        scale = int(batch["x"][0, 0])
    return (batch["x"] @ params["w"]).sum() * scale


def guards(value):
    return trace(loss, PARAMS, batch(value, 2)).guards


def of(*values):
    guarded = Guarded()
    guarded.start(inputs(values[0]), guards(values[0]), 2)
    for value in values[1:]:
        guarded.add(inputs(value), guards(value), 2)
    return guarded


def test_a_batch_of_other_sizes_has_its_own_key_and_reads_nothing():
    choice = of(0).choose(inputs(0, rows=8), 2)
    assert (choice.key, choice.seen) == (inputs(0, rows=8).key, ())


def test_a_trace_without_guards_holds_for_every_batch():
    guarded = Guarded()
    guarded.start(inputs(0), (), 2)
    assert guarded.choose(inputs(7), 2).key == guarded.first == inputs(0).key


def test_the_trace_whose_values_are_read_again_holds():
    guarded = of(0, 2, 7)
    keys = [guarded.choose(inputs(value), 2).key for value in (0, 2, 7)]
    assert len(set(keys)) == 3 and keys[0] == guarded.first
    assert [guarded.choose(inputs(value), 2).key for value in (1, 3, 7)] == keys


def test_values_that_no_trace_has_are_told_with_what_was_read():
    choice = of(0, 7).choose(inputs(8), 2)
    assert choice.key is None
    assert [seen.value for seen in choice.seen] == ["True", "True", "8.0"]


def test_no_more_is_read_than_decides():
    assert [seen.value for seen in of(0, 7).choose(inputs(1), 2).seen] == ["False"]


def test_microbatches_that_disagree_are_named():
    mixed = BatchInputs.of({"x": torch.tensor([[0.0], [0.0], [3.0], [3.0]]).expand(4, 3)}, 2, 0)
    for read in (of(0).choose, lambda i, n: of(0).add(i, guards(0), n)):
        with pytest.raises(BatchError, match="disagree on it: False in microbatch 0, True in microbatch 1"):
            read(mixed, 2)


def test_only_so_many_traces_are_remembered():
    guarded = of(*range(6, 80))
    assert len(guarded.traces[inputs(6).key]) == 64
    assert guarded.choose(inputs(6), 2).key is None and guarded.choose(inputs(79), 2).key is not None


def test_buffers_that_a_step_changes_are_not_read():
    def counting(params, batch, *, buffers):
        new = {"mask": buffers["mask"], "count": buffers["count"] + 1}
        return Out((batch["x"] @ params["w"]).sum() * buffers["mask"].sum(), buffers=new)

    buffers = {"mask": torch.ones(2), "count": torch.zeros(())}
    kept = unchanged(buffers, trace(counting, PARAMS, batch(0), buffers=buffers))
    assert list(kept) == ["mask"]
    known = Guarded(buffers=kept).known_buffers({"buffer.mask": torch.zeros(2)})
    assert known["mask"].sum() == 0 and Guarded(buffers=kept).known_buffers(None)["mask"].sum() == 2
