"""Every name that users and frameworks import, with the parameters that it has in torch."""

import inspect

import pytest
from torch.distributed.pipelining import schedules as theirs

from funpipe.interop.pipelining import schedules as ours

NAMES = """
_Action _ComputationType F I W B FORWARD BACKWARD_INPUT BACKWARD_WEIGHT FULL_BACKWARD SEND_F RECV_F SEND_B RECV_B
UNSHARD RESHARD OVERLAP_F_B REDUCE_GRAD _PipelineSchedule _PipelineScheduleRuntime _PipelineContext
_CustomFunctionProtocol _add_send_recv _add_unshard_reshard _add_reduce_grad _merge_bw _defer_recv_ops
_simulate_comms_compute _validate_schedule _format_pipeline_order _dump_chrometrace _batch_p2p _sorted_batch_p2p
_wait_batch_p2p _get_profiler_function_name _ScheduleForwardOnly _requires_reduce_grad""".split()

FUNCTIONS = [n for n in (*NAMES, "get_schedule_class") if inspect.isfunction(getattr(theirs, n))]
CLASSES = [n for n in theirs.__all__ if inspect.isclass(getattr(theirs, n))] + ["_ScheduleForwardOnly"]
METHODS = [
    ("_PipelineSchedule", "step"),
    ("_PipelineSchedule", "eval"),
    ("_PipelineSchedule", "_step_microbatches"),
    ("_PipelineSchedule", "_check_inputs"),
    ("_PipelineSchedule", "_split_inputs"),
    ("_PipelineSchedule", "_merge_outputs"),
    ("_PipelineSchedule", "_compute_loss"),
    ("_PipelineSchedule", "_maybe_compute_loss"),
    ("_PipelineSchedule", "_maybe_get_loss"),
    ("_PipelineSchedule", "_update_losses"),
    ("PipelineScheduleMulti", "_validate_and_set_stage_mapping"),
    ("PipelineScheduleMulti", "_load_csv"),
    ("PipelineScheduleMulti", "_dump_csv"),
    ("_PipelineScheduleRuntime", "register_custom_function"),
    ("_PipelineScheduleRuntime", "_prepare_schedule_with_comms"),
    ("_PipelineScheduleRuntime", "_load_csv"),
    ("_PipelineScheduleRuntime", "_dump_csv"),
    ("_PipelineScheduleRuntime", "_simulate"),
]


def parameters(function):
    """Names, kinds and defaults; those of ours that may only be given by keyword and have a default come on top."""
    found = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in found]


def same_to_callers(own, given):
    """Whatever is called as it is there is understood here: what is new is by keyword, and has a default."""
    theirs_, ours_ = parameters(given), parameters(own)
    new = [p for p in ours_ if p[0] not in [name for name, *_ in theirs_]]
    assert [p for p in ours_ if p not in new] == theirs_
    assert all(
        kind is inspect.Parameter.KEYWORD_ONLY and default is not inspect.Parameter.empty for _, kind, default in new
    )


@pytest.mark.parametrize("name", [*NAMES, *theirs.__all__])
def test_the_name_is_there(name):
    assert hasattr(ours, name)


def test_what_a_star_imports_is_the_same():
    assert sorted(ours.__all__) == sorted(theirs.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_called_alike(name):
    same_to_callers(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("name", CLASSES)
def test_schedules_are_made_alike(name):
    same_to_callers(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("name", CLASSES)
def test_every_schedule_takes_a_backend_and_an_optimizer(name):
    assert {"backend", "optimizer"} < inspect.signature(getattr(ours, name)).parameters.keys()


@pytest.mark.parametrize(("cls", "method"), METHODS)
def test_methods_are_called_alike(cls, method):
    same_to_callers(getattr(getattr(ours, cls), method), getattr(getattr(theirs, cls), method))


@pytest.mark.parametrize("name", ["PipelineScheduleSingle", "PipelineScheduleMulti", "_PipelineScheduleRuntime"])
def test_classes_stand_in_the_same_line(name):
    for cls in CLASSES:
        known = issubclass(getattr(theirs, cls), getattr(theirs, name))
        assert issubclass(getattr(ours, cls), getattr(ours, name)) == known
