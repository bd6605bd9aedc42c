"""Dropout is the same for every cut, schedule and backend, for replicas and processes, and in what a state becomes."""

import itertools

import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeTypeError, StateError, TraceError
from funpipe.backends.inductor import Source
from funpipe.backends.pieces import pieces
from tests.api.dropout_model import batch_of, initial, loss_fn, losses, processes, step_of
from tests.api.models import same_bits

STEPS = 3


@pytest.fixture(scope="module")
def reference():
    return losses(step_of(), STEPS)


WAYS = [
    *itertools.product((2,), ("gpipe", "1f1b", "zbv")),
    *itertools.product((4,), ("gpipe", "1f1b", "zbv", "interleaved1f1b", "zerobubbleh1", "dualpipev")),
]


@pytest.mark.parametrize(("stages", "schedule"), WAYS)
def test_the_bits_are_those_of_one_stage(reference, stages, schedule):
    assert same_bits(losses(step_of(stages=stages, schedule=schedule), STEPS), reference)


@pytest.mark.parametrize("remat", ["full", fp.stages.Budget(3000)])
def test_what_is_computed_again_has_the_same_masks(reference, remat):
    assert same_bits(losses(step_of(stages=2, remat=remat), STEPS), reference)


@pytest.mark.parametrize(
    ("backend", "stages", "schedule"),
    [
        ("step", 2, "1f1b"),
        pytest.param("step", 1, "gpipe", marks=pytest.mark.full),
        pytest.param("step", 4, "gpipe", marks=pytest.mark.full),
        pytest.param("step", 4, "zbv", marks=pytest.mark.full),
        pytest.param("regions", 2, "1f1b", marks=pytest.mark.full),
    ],
)
def test_compiled_losses(reference, backend, stages, schedule):
    found = losses(step_of(backend=backend, stages=stages, schedule=schedule), STEPS)
    torch.testing.assert_close(found, reference)


@pytest.mark.full
def test_fused(reference):
    torch.testing.assert_close(losses(step_of(backend="step", stages=2, numerics="fast"), STEPS), reference)


@pytest.mark.parametrize("backend", ["interpret", pytest.param("step", marks=pytest.mark.full)])
def test_masks_are_the_same_bits_in_compiled_code(backend):
    """The loss is the mask itself."""
    step = step_of(loss=lambda p, b: fp.Out(loss_fn(p, b), aux={"mask": _mask(b)}), backend=backend)
    _, metrics = step(step.init(initial(), batch_of(0)), batch_of(0))
    keys = [fp.random.fold_in(fp.random.fold_in(fp.random.fold_in(fp.random.key(5), 0), i), 8) for i in range(4)]
    wanted = [fp.random.dropout(k, torch.ones(4, 8), 0.5) for k in keys]
    assert torch.equal(metrics["mask"], torch.cat(wanted))


def _mask(batch):
    return fp.cat(torch.nn.functional.dropout(torch.ones_like(batch["x"]), 0.5))


def test_equal_layers_are_one_graph():
    traced = step_of().trace(initial(), batch_of(0)).traced
    (stage,) = fp.stages.partition(traced, ())
    for region in stage.regions:
        cut = pieces(region.module, [region.types[n] for n in region.inputs])
        found = [Source(region.name, piece.module, piece.types).key for piece in cut]
        assert len(found) >= 4 and len(set(found)) <= 3


def test_every_microbatch_step_and_layer_has_its_own_mask():
    step = step_of(loss=lambda p, b: fp.Out(loss_fn(p, b), aux={"a": _mask(b), "b": _mask(b)}))
    state, found = step.init(initial(), batch_of(0)), []
    for _ in range(2):
        state, metrics = step(state, batch_of(0))
        found += [*metrics["a"].chunk(4), *metrics["b"].chunk(4)]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(found, 2))


def test_another_key_gives_other_losses(reference):
    assert not same_bits(losses(step_of(key=6), STEPS), reference)
    assert same_bits(losses(step_of(key=None), STEPS, key=5), reference)
    assert same_bits(losses(step_of(key=6), STEPS, key=fp.random.key(5)), reference)


def test_without_a_key_it_is_an_error_that_names_the_line():
    with pytest.raises(TraceError, match=r"draws random numbers at .*dropout_model.py:\d+ in 0.drop, and the step has"):
        step_of(key=None).init(initial(), batch_of(0))


def test_a_key_that_is_none():
    with pytest.raises(FunpipeTypeError, match="the key is 'seed'; pass an int"):
        step_of(key="seed")


def test_a_saved_state_goes_on_as_it_would_have(reference):
    step = step_of(stages=2)
    state = step.init(initial(), batch_of(0))
    state, _ = step(state, batch_of(0))
    saved = step.state_dict(state)
    state = step.load(step.init(initial(), batch_of(0), key=77), saved)
    found = []
    for n in range(1, STEPS):
        state, metrics = step(state, batch_of(n))
        found.append(metrics["loss"])
    assert same_bits(found, reference[1:])


def test_a_checkpoint_keeps_the_key(tmp_path):
    step = step_of()
    state = step.init(initial(), batch_of(0), key=2**40 + 1)
    fp.checkpoint.save(tmp_path / "saved", step.state_dict(state))
    other = step.init(initial(), batch_of(0), key=0)
    found = fp.checkpoint.load(tmp_path / "saved", step.state_dict(other))
    assert step.state_dict(step.load(other, found))["key"] == 2**40 + 1


def test_a_state_that_was_saved_without_a_key():
    step = step_of()
    state = step.init(initial(), batch_of(0))
    saved = {n: v for n, v in step.state_dict(state).items() if n != "key"}
    with pytest.raises(StateError, match=r'add one, saved\["key"\] = fp.random.key\(0\)'):
        step.load(state, saved)


def test_as_a_graph_it_has_the_same_bits(reference):
    step = step_of(stages=2)
    values = step.values_of(step.init(initial(), batch_of(0)))
    compiled, found = fp.compile_step(step.as_graph(), backend="interpret"), []
    for n in range(STEPS):
        values, aux = compiled(values, batch_of(n))
        found.append(step.metrics_of(aux)["loss"])
    assert same_bits(found, reference)


def test_programs_with_keys_read_back_from_their_text():
    (program,) = step_of(stages=2).trace(initial(), batch_of(0)).lower().programs
    assert program.instructions[0].names == tuple(map(str, range(8)))
    assert fp.programs.parse(program.as_text()).instructions == program.instructions


def test_another_batch_size_goes_on(reference):
    step = step_of(stages=2)
    state = step.init(initial(), batch_of(0))
    state, first = step(state, batch_of(0))
    state, _ = step(state, {n: t[:8] for n, t in batch_of(1).items()})
    assert same_bits([first["loss"]], reference[:1]) and state.step == 2


def test_value_and_grad_takes_a_key_for_each_call(reference):
    function = fp.value_and_grad(loss_fn, num_microbatches=4, stages=2, backend="interpret")
    first, again, other = (function(initial(), batch_of(0), key=seed)[0] for seed in (5, 5, 6))
    assert same_bits([first, again], [reference[0], reference[0]]) and first != other
    with pytest.raises(TraceError, match="the step has no key"):
        function(initial(), batch_of(0))


@pytest.fixture(scope="module")
def two():
    return fp.launch(processes, 2, timeout=240)


def test_two_processes_are_one(two, reference):
    for rank in two:
        assert same_bits(rank["pp"], reference)


def test_two_replicas_are_one_with_twice_the_microbatches(two, reference):
    for rank in two:
        torch.testing.assert_close(rank["dp"], reference)
    assert same_bits(two[0]["dp"], two[1]["dp"])


def test_an_update_that_draws():
    def noisy(grads, state, params, ctx):
        folded = {n: fp.random.from_name(ctx.key, n) for n in params}
        return {n: p + fp.random.normal(folded[n], p.shape) for n, p in params.items()}, state

    optimizer = fp.optim.Optimizer(lambda params: {}, noisy, name="noisy", scope="leaf", needs_key=True)
    found = []
    for stages, key in ((1, 5), (2, 5), (1, 6)):
        step = step_of(optimizer=optimizer, stages=stages, key=key)
        state, _ = step(step.init(initial(), batch_of(0)), batch_of(0))
        found.append(step.gather(state)[0])
    assert same_bits(found[0], found[1])
    assert all(not torch.equal(found[0][n], found[2][n]) for n in found[0])
