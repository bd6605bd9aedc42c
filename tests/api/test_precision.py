"""Low precision through the step: against plain torch, over cuts and backends, and what a skipped step leaves alone."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeError, StateError, TraceError
from funpipe.programs.instructions import Cast
from tests.api.models import same_bits
from tests.api.precision_models import (
    CLIPPED,
    COUNT,
    FP16,
    OVERFLOWS,
    SCALE,
    batch_of,
    eager,
    loss_fn,
    params_of,
    told_by,
    two_compiled,
    two_ranks,
    weighted,
)

MOMENTUM = fp.optim.sgd(0.05, momentum=0.9)


def step_of(loss=loss_fn, optimizer=MOMENTUM, **options):
    options = {"num_microbatches": COUNT, "backend": "interpret", "precision": "bf16"} | options
    return fp.train_step(loss, optimizer, **options)


def trained(step, steps=3):
    """The state, the losses, and for each step its scale and whether it was skipped."""
    state, losses, told = step.init(params_of(), batch_of(0)), [], []
    for i in range(steps) if isinstance(steps, int) else steps:
        state, metrics = step(state, batch_of(i))
        losses.append(metrics["loss"])
        told.append(told_by(metrics) if "skipped" in metrics else None)
    return state, losses, told


def scaler():
    return torch.amp.GradScaler("cpu", init_scale=SCALE.init, growth_interval=SCALE.window)


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_bf16_compute_has_the_bits_of_parameters_cast_in_eager(stages):
    step = step_of(optimizer=fp.optim.sgd(0.05), stages=stages)
    state, losses, _ = trained(step, range(10, 13))
    params, wanted, _ = eager(range(10, 13), torch.bfloat16)
    assert same_bits(step.gather(state)[0], params)
    assert same_bits(losses, wanted)


def test_parameters_and_slots_are_kept_in_float32_and_computed_in_bfloat16():
    seen = []

    def loss(params, batch):
        seen.extend([params["a"].dtype, batch["x"].dtype, batch["ids"].dtype])
        return loss_fn(params, batch)

    step = step_of(loss)
    params = {n: p.double() for n, p in params_of().items()}
    state = step.init(params, batch_of(0))
    assert seen[:3] == [torch.bfloat16, torch.bfloat16, torch.int64]
    saved = step.state_dict(state)
    assert {t.dtype for t in (*saved["params"].values(), *saved["optimizer"]["momentum"].values())} == {torch.float32}
    state, metrics = step(state, batch_of(0))
    assert metrics["loss"].dtype == torch.float32


def test_a_bucket_is_cast_once_a_step():
    programs = step_of(stages=2, num_microbatches=8)
    programs.init(params_of(), batch_of(0))
    (program,) = programs.lowered.programs
    assert sum(isinstance(i, Cast) for i in program.instructions) == 2


def test_only_the_stage_that_reads_a_part_of_the_batch_casts_it():
    step = step_of(stages=fp.stages.balanced(2))
    step.init(params_of(), batch_of(0))
    first, second = (stage.region("F") for stage in step.lowered.stages)
    assert "batch.y" not in first.inputs
    assert "batch.y" in second.inputs


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_scales_and_skipped_steps_are_those_of_torch(stages):
    step = step_of(optimizer=CLIPPED, precision=FP16, stages=stages)
    state, losses, told = trained(step, 10)
    params, wanted, by_torch = eager(10, torch.float16, scaler(), clip=1.0)
    assert told == by_torch
    assert {i for i, (_, skipped) in enumerate(told) if skipped} == set(OVERFLOWS)
    assert state.step == 10 - len(OVERFLOWS)
    torch.testing.assert_close(losses, wanted, rtol=1e-5, atol=0)
    torch.testing.assert_close(step.gather(state)[0], params, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [loss_fn, weighted])
def test_every_cut_has_the_same_bits(loss):
    found = []
    for stages in (1, 2):
        step = step_of(loss, CLIPPED, precision=FP16, stages=stages)
        state, losses, told = trained(step, 4)
        found.append((step.gather(state)[0], losses, told))
    assert same_bits(found[0][:2], found[1][:2])
    assert found[0][2] == found[1][2]


@pytest.mark.parametrize("backend", ["regions", "step"])
def test_compiled_it_skips_the_same_steps(backend):
    step = step_of(weighted, CLIPPED, precision=FP16, stages=2, backend=backend)
    state, losses, told = trained(step, 6)
    other = step_of(weighted, CLIPPED, precision=FP16)
    wanted, wanted_losses, wanted_told = trained(other, 6)
    assert told == wanted_told
    assert state.step == wanted.step == 6 - sum(skipped for _, skipped in told)
    assert 0 < state.step < 6
    torch.testing.assert_close(losses, wanted_losses, rtol=1e-2, atol=0)
    torch.testing.assert_close(step.gather(state)[0], other.gather(wanted)[0], rtol=1e-2, atol=1e-3)


def counting(params, batch, *, buffers):
    """Counts the microbatches that it has seen."""
    loss = loss_fn(params, batch)
    return fp.Out(loss, buffers={"seen": buffers["seen"] + 1, "mean": buffers["mean"] + batch["boost"].float().mean()})


def test_a_skipped_step_changes_nothing_but_the_scale():
    step = step_of(counting, fp.optim.adamw(1e-2), precision=FP16, stages=2)
    state = step.init(params_of(), batch_of(0), buffers={"seen": torch.tensor(0), "mean": torch.tensor(0.0)})
    state, _ = step(state, batch_of(0))
    before = {n: v.clone() for n, v in state.values.items()}
    state, metrics = step(state, batch_of(2))
    assert told_by(metrics) == (SCALE.init, True)
    changed = {n for n, v in state.values.items() if not torch.equal(v, before[n])}
    assert changed == {"scale.value", "scale.good"}
    state, metrics = step(state, batch_of(3))
    assert told_by(metrics) == (SCALE.init / 2, False)
    assert int(state.values["buffer.seen"]) == 2 * COUNT
    assert state.step == 2


@pytest.fixture(scope="module")
def two():
    return fp.launch(two_ranks, 2, timeout=240)


def test_both_replicas_skip_where_one_overflows(two):
    one, other = (rank["replicas"] for rank in two)
    assert one["told"] == other["told"]
    assert [skipped for _, skipped in one["told"]] == [i in OVERFLOWS for i in range(8)]
    assert one["step"] == other["step"] == 5
    assert same_bits(one["params"], other["params"])


@pytest.mark.parametrize(("name", "loss"), [("stages", loss_fn), ("tied", weighted)])
def test_two_processes_have_the_bits_of_one(two, name, loss):
    step = step_of(loss, CLIPPED, precision=FP16)
    state, losses, told = trained(step, 8)
    for rank in two:
        assert rank[name]["told"] == told
        assert same_bits(rank[name]["losses"], losses)
        assert same_bits(rank[name]["params"], step.gather(state)[0])


@pytest.mark.full
def test_two_compiled_processes_skip_together():
    _, losses, told = trained(step_of(weighted, CLIPPED, precision=FP16), 4)
    found = fp.launch(two_compiled, 2, timeout=240)
    for rank in found:
        assert rank["told"] == told
        torch.testing.assert_close(rank["losses"], losses, rtol=1e-2, atol=0)
    assert same_bits(found[0]["params"], found[1]["params"])


@pytest.mark.parametrize("updates", ["node", "expanded"])
def test_a_graph_of_the_step_has_its_bits(updates):
    one, other = (step_of(weighted, CLIPPED, precision=FP16) for _ in range(2))
    values = one.values_of(one.init(params_of(), batch_of(0)))
    compiled, told = fp.compile_step(one.as_graph(updates), backend="interpret"), []
    for i in range(4):
        values, aux = compiled(values, batch_of(i))
        told.append(told_by(one.metrics_of(aux)))
    wanted, _, wanted_told = trained(other, 4)
    assert told == wanted_told
    assert one.state_of(values).step == wanted.step
    assert same_bits(one.gather(one.state_of(values))[0], other.gather(wanted)[0])


def test_an_update_that_is_put_off_is_skipped_all_the_same():
    one, other = (step_of(optimizer=CLIPPED, precision=FP16) for _ in range(2))
    values = one.values_of(one.init(params_of(), batch_of(0)))
    first, main, flush = fp.rotate(one.as_graph(), fp.passes.updates(["bucket.s0_float32"]))
    carried, told = first(values), []
    for i in range(4):
        carried, aux = main(carried, batch_of(i))
        told.append(told_by(one.metrics_of(aux)))
    wanted, _, wanted_told = trained(other, 4)
    assert told == wanted_told
    assert same_bits(one.gather(one.state_of(flush(carried).state))[0], other.gather(wanted)[0])


def test_smaller_buckets_change_no_bit():
    step = step_of(optimizer=CLIPPED, precision=FP16, passes=fp.passes.rebucket(300, 300))
    other = step_of(optimizer=CLIPPED, precision=FP16)
    (state, losses, told), (wanted, wanted_losses, wanted_told) = trained(step, 4), trained(other, 4)
    assert len(step.lowered.all.layout.buckets) > 1
    assert told == wanted_told
    assert same_bits(losses, wanted_losses)
    torch.testing.assert_close(step.gather(state)[0], other.gather(wanted)[0], rtol=0, atol=0)


def test_the_programs_read_back():
    step = step_of(weighted, CLIPPED, precision=FP16, stages=2)
    step.init(params_of(), batch_of(0))
    for program in step.lowered.programs:
        assert fp.programs.parse(program.as_text()).instructions == program.instructions


def test_a_saved_scale_goes_on(tmp_path):
    step = step_of(precision=FP16)
    state, _, _ = trained(step, 3)
    fp.checkpoint.save(tmp_path / "saved", step.state_dict(state))
    other = step_of(precision=FP16)
    template = other.init(params_of(), batch_of(0))
    loaded = other.load(template, fp.checkpoint.load(tmp_path / "saved", other.state_dict(template)))
    assert float(loaded.values["scale.value"]) == SCALE.init / 2
    (one, metrics), (two, others) = step(state, batch_of(3)), other(loaded, batch_of(3))
    assert told_by(metrics) == told_by(others) == (SCALE.init / 2, False)
    assert same_bits(step.gather(one)[0], other.gather(two)[0])


def test_a_state_without_a_scale_is_refused():
    step, plain = step_of(precision=FP16), step_of()
    saved = plain.state_dict(plain.init(params_of(), batch_of(0)))
    with pytest.raises(StateError, match=r"has no loss scale, and this step has: .*saved\[\"scale\"\] = "):
        step.load(step.init(params_of(), batch_of(0)), saved)


def test_leaves_kept_in_float32_beside_others_of_their_bucket():
    policy = fp.Precision(keep={"b": torch.float32})

    def loss(params, batch):
        assert [params[n].dtype for n in "ab"] == [torch.bfloat16, torch.float32]
        h = torch.tanh(batch["x"] @ params["a"])
        return (h.float() @ params["b"]).square().mean()

    found = [trained(step_of(loss, precision=policy, stages=stages)) for stages in (1, 2)]
    assert same_bits(found[0][1], found[1][1])


def test_gradients_come_in_the_dtype_in_which_they_are_added():
    f = fp.value_and_grad(loss_fn, num_microbatches=COUNT, backend="interpret", precision="bf16")
    loss, grads = f(params_of(), batch_of(0))
    params = {n: p.requires_grad_() for n, p in params_of().items()}
    low = {n: p.to(torch.bfloat16) for n, p in params.items()}
    parts = [{n: t.chunk(COUNT)[i] for n, t in batch_of(0).items()} for i in range(COUNT)]
    found = [
        loss_fn(low, {n: t.to(torch.bfloat16) if t.is_floating_point() else t for n, t in p.items()}) for p in parts
    ]
    sum(found).backward()
    assert (loss.dtype, grads["a"].dtype) == (torch.float32, torch.float32)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, params[name].grad / COUNT, rtol=1e-2, atol=1e-3)


def test_a_fixed_scale_does_not_change_gradients():
    plain, scaled = (
        fp.value_and_grad(
            loss_fn, num_microbatches=COUNT, backend="interpret", precision=fp.Precision(torch.float32, c, loss_scale=s)
        )
        for c, s in ((torch.float32, None), (torch.float32, 1024.0))
    )
    for (one, grads), (other, wanted) in [(scaled(params_of(), batch_of(0)), plain(params_of(), batch_of(0)))]:
        assert same_bits((one, grads), (other, wanted))


def test_a_dynamic_scale_needs_a_state():
    with pytest.raises(FunpipeError, match=r"keeps no state: pass a number, as in fp\.Precision"):
        fp.value_and_grad(loss_fn, precision="fp16")


@pytest.mark.parametrize("backend", ["interpret", "step"])
def test_an_evaluation_computes_as_its_training_step_does(backend):
    step = step_of(precision=FP16, stages=2, backend=backend)
    state = step.init(params_of(), batch_of(0))
    found = fp.eval_step(loss_fn, like=step)(state, batch_of(0))["loss"]
    state, metrics = step(state, batch_of(0))
    torch.testing.assert_close(found, metrics["loss"], rtol=1e-3, atol=0)


def inside(params, batch):
    with torch.autocast("cpu", torch.bfloat16):
        h = torch.tanh(batch["x"] @ params["a"])
        h = torch.tanh(h @ params["b"] @ params["a"])
    return (h.float() @ params["c"] @ params["d"]).square().mean()


@pytest.mark.parametrize("stages", [1, 2])
def test_autocast_in_the_loss_is_traced(stages):
    f = fp.value_and_grad(inside, stages=stages, backend="interpret")
    loss, grads = f(params_of(), batch_of(0))
    params = {n: p.requires_grad_() for n, p in params_of().items()}
    wanted = inside(params, batch_of(0))
    wanted.backward()
    assert torch.equal(loss, wanted)
    for name in "bcd":
        assert torch.equal(grads[name], params[name].grad)
    torch.testing.assert_close(grads["a"], params["a"].grad, rtol=1e-2, atol=1e-4)


def test_autocast_around_the_trace_is_an_error_and_leaves_no_stand_ins():
    step = step_of(inside, precision=None)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(TraceError, match=r"torch\.autocast\('cpu'\) is open around .*precision=\"bf16\""):
            step.init(params_of(), batch_of(0))
        weight = params_of()["a"].requires_grad_()
        assert type(weight @ weight) is torch.Tensor
    state = step.init(params_of(), batch_of(0))
    with torch.autocast("cpu", torch.bfloat16):
        _, metrics = step(state, batch_of(0))
    assert torch.equal(metrics["loss"], trained(step_of(inside, precision=None), 1)[1][0])


def test_values_of_its_own_names_are_refused():
    def loss(params, batch):
        return fp.Out(loss_fn(params, batch), aux={"skipped": fp.max(torch.zeros(()))})

    with pytest.raises(FunpipeError, match=r"aux has the key 'skipped'"):
        step_of(loss, precision=FP16).init(params_of(), batch_of(0))
