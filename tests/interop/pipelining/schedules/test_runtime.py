from types import SimpleNamespace

import pytest
import torch

from funpipe import FunpipeError
from funpipe.interop.pipelining import walking
from funpipe.interop.pipelining.schedules import (
    FORWARD,
    OVERLAP_F_B,
    SEND_F,
    Schedule1F1B,
    _PipelineContext,
    _PipelineScheduleRuntime,
)
from tests.interop.pipelining.schedules.made import MULTI, as_text, made, rows, stage

WHOLE = ("0F0 0SEND_F0 0RECV_B0 0B0 0REDUCE_GRAD", "1RECV_F0 1F0 1B0 1SEND_B0 1REDUCE_GRAD")


def runtime(m=1, **options):
    return _PipelineScheduleRuntime([stage(2)], m, **options)


def test_computations_get_their_communication():
    schedule = runtime()
    schedule._prepare_schedule_with_comms(rows("0F0 . 0B0", ". 1F0 1B0"))
    assert as_text(schedule.pipeline_order_with_comms) == as_text(
        rows(
            f"0UNSHARD {WHOLE[0]} 0RESHARD",
            f"1UNSHARD {WHOLE[1]} 1RESHARD",
        )
    )


def test_communication_that_is_there_is_kept_and_run(engines):
    schedule = runtime()
    schedule._prepare_schedule_with_comms(rows(*WHOLE), format="compute_comms")
    assert schedule.pipeline_order_with_comms == rows(*WHOLE)
    schedule.step()
    assert [" ".join(map(str, engines[0].table.order(r))) for r in range(2)] == ["0F0 0B0", "1F0 1B0"]


class Mine(_PipelineScheduleRuntime):
    """A user's schedule that sets its rows with communication."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pipeline_order_with_comms = rows(*WHOLE)
        self._validate_and_set_stage_mapping(self.pipeline_order_with_comms)


def test_a_users_rows_are_run(engines):
    Mine([stage(2)], 1).step()
    assert engines[0].table.placement == (0, 1)


def test_communication_that_does_not_fit_is_refused():
    """torch checks none of it, and waits for ever."""
    with pytest.raises(AssertionError, match="1RECV_F0: it has no other end"):
        runtime()._prepare_schedule_with_comms(rows("0F0 0B0", "1RECV_F0 1F0 1B0"), format="compute_comms")


@pytest.mark.parametrize("action", ["0SEND_F0", "0REDUCE_GRAD", "0UNSHARD", "0RESHARD"])
def test_computations_alone_have_no_communication(action):
    with pytest.raises(ValueError, match=f"Expected compute-only schedule but found communication action '{action}'"):
        runtime()._prepare_schedule_with_comms(rows(f"0F0 0B0 {action}", "1F0 1B0"))


def test_another_format_is_not_implemented(tmp_path):
    for call in (
        lambda: runtime()._prepare_schedule_with_comms(rows("0F0 0B0", "1F0 1B0"), "x"),
        lambda: runtime()._load_csv("rows.csv", "x"),
        lambda: runtime()._dump_csv("rows.csv", "x"),
    ):
        with pytest.raises(NotImplementedError, match="format='x' is not implemented") as raised:
            call()
        assert isinstance(raised.value, FunpipeError)


def test_without_rows_it_says_so(tmp_path):
    with pytest.raises(AssertionError, match=r"Must call _prepare_schedule_with_comms\(\) before"):
        runtime().step()
    with pytest.raises(AssertionError, match="Must initialize compute_comms schedule before dump_csv"):
        runtime()._dump_csv(str(tmp_path / "rows.csv"))
    with pytest.raises(AssertionError, match="Compute only schedule must be available"):
        runtime()._dump_csv(str(tmp_path / "rows.csv"), "compute_only")


@pytest.mark.parametrize("form", ["compute_only", "compute_comms"])
@pytest.mark.parametrize("name", MULTI)
def test_rows_go_to_a_file_and_back(name, form, tmp_path, engines):
    written = made(name, 2, 4)
    written._dump_csv(str(tmp_path / "rows.csv"), form)
    read = _PipelineScheduleRuntime([stage(4, 2, i) for i in range(2)], 4)
    read._load_csv(str(tmp_path / "rows.csv"), form)
    assert as_text(read.pipeline_order_with_comms) == as_text(written.pipeline_order_with_comms)
    assert read.stage_index_to_group_rank == written.stage_index_to_group_rank
    read.step()
    written.step()
    of_read, of_written = (engine.table for engine in engines)
    assert [of_read.order(r) for r in range(2)] == [of_written.order(r) for r in range(2)]


def test_more_or_fewer_parameters_are_there_at_once():
    lines = "0F0 1F0 2F0 3F0 3B0 2B0 1B0 0B0"
    first = []
    for most in (1, 4):
        schedule = _PipelineScheduleRuntime([stage(4, 1)], 1, max_active_stages=most)
        schedule._prepare_schedule_with_comms(rows(lines))
        first.append(as_text(schedule.pipeline_order_with_comms[0]).index("0F0"))
    assert first == [1, 4]


@pytest.mark.parametrize("name", MULTI)
def test_receives_are_late_if_asked_for(name):
    early, late = (made(name, 2, 4, defer_pp_recv=defer).pipeline_order_with_comms for defer in (False, True))
    assert as_text(early) != as_text(late)
    assert {r: sorted(as_text(row)) for r, row in early.items()} == {r: sorted(as_text(row)) for r, row in late.items()}


def function(action, ctx):
    """A custom function that does nothing."""


def test_some_kinds_of_actions_have_no_custom_function():
    with pytest.raises(ValueError, match=r"Invalid computation type _ComputationType.SEND_F\. Only FORWARD, FULL_BACK"):
        runtime().register_custom_function(SEND_F, function)


def test_a_second_custom_function_takes_the_place_of_the_first():
    schedule = runtime()
    schedule.register_custom_function(FORWARD, function)
    with pytest.warns(UserWarning, match="FORWARD is already registered"):
        schedule.register_custom_function(FORWARD, print)
    assert schedule._comp_type_to_function_map == {FORWARD: print}


def test_with_a_custom_function_the_rows_are_walked(monkeypatch, engines):
    seen = []

    def walk(schedule, arg_mbs, kwarg_mbs, target_mbs, loss_kwargs):
        seen.append((schedule, arg_mbs, kwarg_mbs, target_mbs, loss_kwargs))
        return SimpleNamespace(outputs=[args[0] for args in arg_mbs], losses=[torch.tensor(1.0)] * 2)

    monkeypatch.setattr(walking, "walk", walk)
    schedule = _PipelineScheduleRuntime([stage(1)], 2, loss_fn=torch.nn.functional.mse_loss)
    schedule._prepare_schedule_with_comms(rows("0F0 0F1 0B0 0B1"))
    schedule.register_custom_function(OVERLAP_F_B, function)
    x, losses = torch.arange(4.0), []
    assert schedule.step(x, target=x, losses=losses, loss_kwargs={"a": 1}).equal(x)
    ((_, arg_mbs, kwarg_mbs, target_mbs, loss_kwargs),) = seen
    assert [a[0].tolist() for a in arg_mbs] == [[0, 1], [2, 3]] == [t.tolist() for t in target_mbs]
    assert (kwarg_mbs, loss_kwargs, len(losses), engines) == ([{}, {}], {"a": 1}, 2, [])
    assert schedule.step(x, target=x, return_outputs=False) is None
    with pytest.raises(TypeError, match="losses must be a list"):
        schedule.step(x, target=x, losses=())


def test_a_function_on_another_rank_makes_this_one_walk_too(monkeypatch, engines):
    """Half of the ranks in the engine and half in the walk would wait for each other."""
    asked, walked = [], []
    monkeypatch.setattr(walking, "on_any_rank", lambda here, group: asked.append(here) or True)
    monkeypatch.setattr(
        walking, "walk", lambda *given: walked.append(given) or SimpleNamespace(outputs=None, losses=None)
    )
    schedule = Mine([stage(2)], 1)
    for _ in range(2):
        schedule.step(torch.zeros(1))
    schedule.register_custom_function(FORWARD, function)
    schedule.step(torch.zeros(1))
    assert (asked, len(walked), engines) == ([False, True], 3, [])


def test_custom_functions_are_for_schedules_with_communication():
    schedule = Schedule1F1B(stage(1), 1)
    schedule._comp_type_to_function_map[FORWARD] = function
    with pytest.raises(NotImplementedError, match="Schedule1F1B has no custom functions"):
        schedule.step()


def test_a_context_holds_what_functions_work_with():
    schedule = runtime()
    context = _PipelineContext(schedule, arg_mbs=[(1,)])
    assert context.schedule_ref is schedule and context.losses is None
    assert (schedule.fwd_recv_ops, schedule.bwd_recv_ops, schedule.backward_counter[0]) == ({}, {}, 0)
