"""trace, lower, compile: each rung is a value that prints, ahead of time, without any memory."""

import pytest
import torch

import funpipe as fp
from funpipe.programs import verify
from funpipe.runtime.inputs import BatchInputs
from tests.api.models import batch_of, loss_fn, params_of, step_of


def meta(tree):
    import optree

    return optree.tree_map(lambda t: t.to("meta"), tree)


@pytest.fixture(scope="module")
def traced():
    return step_of().trace(meta(params_of()), meta(batch_of()))


@pytest.fixture(scope="module")
def lowered(traced):
    return traced.lower()


def test_a_trace_shows_each_operation_with_its_line(traced):
    text = traced.as_text()
    assert "aten.mm.default" in text or "mm.default" in text
    assert "models.py" in text
    assert "param first.weight" in text


def test_the_programs_are_those_of_real_values(lowered):
    step = step_of()
    step.init(params_of(), batch_of())
    assert step.lowered.all.digest() == lowered.all.digest()


def test_lowered_shows_the_schedule_and_every_program(lowered):
    text = lowered.as_text()
    assert text.startswith(lowered.schedule.as_text())
    assert all(p.as_text() in text for p in lowered.programs)
    assert len(lowered.programs) == 1
    assert len(lowered.stages) == 2


def test_memory_is_the_verifiers_peak(lowered):
    (peak,) = lowered.memory_analysis()
    assert peak == verify(lowered.all).peak_memory[0]
    assert peak > sum(t.numel() * 4 for t in (*params_of()["first"].values(), *batch_of().values()))


def test_more_microbatches_in_flight_take_more_memory():
    def peak(schedule):
        step = step_of(schedule=schedule, num_microbatches=16)
        return step.trace(meta(params_of()), meta(batch_of(1024))).lower().memory_analysis()[0]

    assert peak("gpipe") > peak("1f1b")


def test_values_that_are_computed_again_take_less_memory_and_more_work():
    def lowered(remat):
        step = step_of(schedule="gpipe", num_microbatches=16, remat=remat)
        return step.trace(meta(params_of()), meta(batch_of(1024))).lower()

    none, full = lowered("none"), lowered("full")
    assert full.memory_analysis()[0] < none.memory_analysis()[0]
    assert full.cost_analysis()[0]["B.flops"] > none.cost_analysis()[0]["B.flops"]


def test_costs_are_those_of_the_matrix_products(lowered):
    first, second = lowered.cost_analysis()
    rows = 2
    assert first["F.flops"] >= 2 * rows * 5 * 6
    assert second["F.flops"] >= 2 * rows * (6 * 6 + 6 * 2)
    assert second["B.flops"] > second["F.flops"]
    assert set(first) == {"F.flops", "F.bytes", "B.flops", "B.bytes"}


def test_compiled_shows_what_runs_and_what_it_gives(lowered):
    compiled = lowered.compile()
    assert compiled.program is lowered.programs[0]
    assert compiled.as_text() == compiled.program.as_text()
    assert list(compiled.results.owners) == ["loss"]


def test_a_model_that_fits_no_machine_is_planned():
    """Weights of 64 TiB, on the meta device."""
    params = {"a": torch.empty(2**22, 2**22, device="meta"), "b": torch.empty(2**22, 8, device="meta")}
    step = step_of(lambda p, x: fp.mark_stage_end(x @ p["a"]).matmul(p["b"]).mean(), fp.optim.adamw(1e-3))
    lowered = step.trace(params, torch.empty(64, 2**22, device="meta")).lower()
    assert lowered.memory_analysis()[0] > 3 * 2**46


def test_the_step_of_the_ladder_needs_no_init():
    with pytest.raises(fp.FunpipeError, match=r"call step\.init"):
        _ = step_of(loss_fn).lowered


def test_the_first_batch_is_looked_at_once(monkeypatch):
    looked, of = [], BatchInputs.of
    monkeypatch.setattr(
        BatchInputs, "of", staticmethod(lambda *args, **kwargs: looked.append(1) or of(*args, **kwargs))
    )
    step_of().init(params_of(), batch_of())
    assert len(looked) == 1
