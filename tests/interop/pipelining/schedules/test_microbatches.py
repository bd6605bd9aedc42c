import pytest
import torch

from funpipe.interop.pipelining.engine import Call
from funpipe.interop.pipelining.microbatch import TensorChunkSpec
from funpipe.interop.pipelining.schedules import ScheduleGPipe
from tests.interop.pipelining.schedules.made import stage

X = torch.arange(6.0).reshape(2, 3)


def schedule(**options):
    return ScheduleGPipe(stage(1), 2, **options)


def test_what_is_split_along_its_specs_is_merged_along_them():
    found = schedule(
        args_chunk_spec=(TensorChunkSpec(1),),
        kwargs_chunk_spec={"y": TensorChunkSpec(0)},
        output_merge_spec=TensorChunkSpec(1),
    )
    args, kwargs = found._split_inputs((X,), {"y": X})
    assert [a[0].shape for a in args] == [(2, 2), (2, 1)] and [k["y"].shape for k in kwargs] == [(1, 3), (1, 3)]
    assert found._merge_outputs([a[0] for a in args]).equal(X)


def test_without_arguments_there_are_empty_microbatches():
    assert schedule()._split_inputs(()) == ([(), ()], [{}, {}]) == schedule()._check_inputs()


def test_a_target_of_any_structure_is_split():
    *_, targets = schedule()._in_microbatches(Call((X,), {}, {"labels": X, "smoothing": 0.1}))
    assert [t["labels"].shape for t in targets] == [(1, 3), (1, 3)] and targets[0]["smoothing"] == 0.1


def test_what_was_given_in_microbatches_stays_so():
    args, kwargs, targets = schedule()._in_microbatches(
        Call(arg_mbs=[(1,), (2,)], kwarg_mbs=[{}, {}], target_mbs=[3, 4])
    )
    assert (args, kwargs, targets) == ([(1,), (2,)], [{}, {}], [3, 4])


def test_a_batch_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="Expecting 2 arg_mbs but got 1"):
        schedule()._in_microbatches(Call((X[:1],)))
