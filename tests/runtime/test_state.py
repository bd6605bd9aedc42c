"""A state is used once, belongs to one step, and is lost when its step does not finish."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeTypeError, StateError, TreeError
from funpipe.runtime.exchange import _home_of_buffer
from funpipe.runtime.leaves_of_state import initial_values
from funpipe.schedules import OneFOneB
from tests.api.models import batch_of, batches, leaves, params_of, same_bits, step_of, trained


@pytest.fixture
def step():
    return step_of()


@pytest.fixture
def state(step):
    return step.init(params_of(), batch_of())


def uses(step, state):
    """Everything that reads a state."""
    evaluate = fp.eval_step(step.setup.loss_fn, like=step)
    return [
        lambda: step(state, batch_of()),
        lambda: step.gather(state),
        lambda: step.state_dict(state),
        lambda: evaluate(state, batch_of()),
    ]


def test_a_consumed_state_is_refused_and_its_memory_let_go(step, state):
    step(state, batch_of())
    for use in uses(step, state):
        with pytest.raises(
            StateError, match=r"was consumed .* use the state that the step returned, as in state, metr"
        ):
            use()
    assert repr(state) == "State(consumed, 0 values, 0 bytes on this rank)"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_state_whose_step_broke_off_is_refused_until_it_is_loaded(step, state, error, monkeypatch):
    state, _ = step(state, batch_of())
    saved = {k: v if isinstance(v, int) else copied(v) for k, v in step.state_dict(state).items()}
    (compiled,) = step._engine.compiled.values()

    def breaks_off(inputs):
        for tensor in inputs:
            tensor.zero_()
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(type(compiled.executable), "__call__", lambda self, inputs: breaks_off(inputs))
        with pytest.raises(error):
            step(state, batch_of())
    for use in uses(step, state):
        with pytest.raises(StateError, match=r"raised or was interrupted, .* again from a checkpoint with step\.load"):
            use()
    state, metrics = step(step.load(state, saved), batch_of())
    _, wanted = trained(step_of(), params_of(), [batch_of()] * 2)
    assert torch.equal(metrics["loss"], wanted[1])


def copied(tree):
    return {k: copied(v) if isinstance(v, dict) else v.clone() for k, v in tree.items()}


def test_the_state_of_another_optimizer_is_refused(state):
    other = step_of(optimizer=fp.optim.adamw(1e-3))
    other.init(params_of(), batch_of())
    for use in [*uses(other, state), lambda: other.load(state, {})]:
        with pytest.raises(
            StateError, match=r"belongs to another step \(it has 'optimizer sgd\(.* has 'optimizer adamw\("
        ):
            use()


def test_the_state_of_another_cut_is_refused(state):
    other = step_of(stages=1)
    other.init(params_of(), batch_of())
    for use in uses(other, state):
        with pytest.raises(StateError, match="belongs to another step"):
            use()


@pytest.mark.parametrize("change", ["buffer", "frozen"])
def test_the_state_of_other_loose_leaves_is_refused(change):
    def loss(params, batch, *, buffers):
        wanted = params["frozen"].sum() + buffers["b"].sum()
        return fp.Out((batch["x"] @ params["w"] * wanted).square().mean(), buffers=buffers)

    def made(frozen, buffer):
        params = {"w": torch.ones(5, 2, requires_grad=True), "frozen": torch.ones(frozen)}
        step = step_of(loss)
        return step, step.init(params, batch_of(), buffers={"b": torch.ones(buffer)})

    step, _ = made(2, 2)
    _, state = made(3, 2) if change == "frozen" else made(2, 3)
    with pytest.raises(
        StateError, match=r"belongs to another step \(it has '.*float32\[3\].*, the step has .*float32\[2\]"
    ):
        step(state, batch_of())


def test_the_state_of_an_equal_step_fits(state):
    other = step_of()
    other.init(params_of(1), batch_of())
    assert torch.equal(other(state, batch_of())[1]["loss"], trained(step_of(), params_of(), [batch_of()])[1][0])


@pytest.mark.parametrize("what", ["call", "gather", "state_dict", "load", "eval"])
def test_something_else_than_a_state_is_refused(step, state, what):
    use = {
        "call": lambda: step({}, batch_of()),
        "gather": lambda: step.gather({}),
        "state_dict": lambda: step.state_dict({}),
        "load": lambda: step.load({}, {}),
        "eval": lambda: fp.eval_step(step.setup.loss_fn, like=step)({}, batch_of()),
    }[what]
    with pytest.raises(
        FunpipeTypeError, match=r"the state is of type dict; pass what step\.init, step\.load or the step"
    ):
        use()


def test_a_step_without_init_says_so():
    with pytest.raises(StateError, match=r"no state yet: call step\.init\(params, batch\) first"):
        step_of()(None, batch_of())


def test_the_parameters_given_to_init_never_change(step):
    params, buffers = params_of(), {"unread": torch.ones(3)}
    state = step.init(params, batch_of(), buffers=buffers)
    for _ in range(3):
        state, _ = step(state, batch_of())
    assert same_bits(params, params_of())
    leaves(params)[0].zero_()
    assert not (leaves(step.gather(state)[0])[0] == 0).all()


def test_what_gather_returns_never_changes(step, state):
    before, _ = step.gather(state)
    assert same_bits(before, params_of())
    state, _ = step(state, batch_of())
    assert same_bits(before, params_of())
    for leaf in leaves(step.gather(state)[0]):
        leaf.zero_()
    assert not (leaves(step.gather(state)[0])[0] == 0).all()


def test_gather_keeps_dicts_lists_and_tuples(step, state):
    params, buffers = step.gather(state)
    assert isinstance(params["rest"], list)
    assert isinstance(params["rest"][1], tuple)
    assert buffers == {}


def test_a_saved_state_goes_on_exactly(step):
    state, _ = trained(step, params_of(), batches(3))
    saved = {k: v if isinstance(v, int) else copied(v) for k, v in step.state_dict(state).items()}
    assert saved["step"] == 3
    assert list(saved["params"]) == ["first.bias", "first.weight", "rest.0", "rest.1.0"]
    assert [list(slot) for slot in saved["optimizer"].values()] == [list(saved["params"])]
    other = step_of()
    fresh = other.load(other.init(params_of(5), batch_of()), saved)
    for seed in range(3, 6):
        state, one = step(state, batch_of(seed=seed))
        fresh, two = other(fresh, batch_of(seed=seed))
        assert torch.equal(one["loss"], two["loss"])
    assert same_bits(step.gather(state)[0], other.gather(fresh)[0])
    assert fresh.step == 6


def test_what_load_is_given_is_copied(step, state):
    saved = step.state_dict(state)
    held = {n: t.clone() for n, t in saved["params"].items()}
    loaded = step.load(step.init(params_of(3), batch_of()), {**saved, "params": held})
    step(loaded, batch_of())
    assert all(torch.equal(held[n], t) for n, t in saved["params"].items())


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (
            lambda s: {**s, "params": {n: t for n, t in s["params"].items() if n != "rest.0"}},
            TreeError,
            "missing 'rest.0'",
        ),
        (
            lambda s: {**s, "params": s["params"] | {"rest.0": torch.ones(2)}},
            TreeError,
            r"'rest.0' is float32\[2\], but",
        ),
        (lambda s: {**s, "params": s["params"] | {"rest.0": torch.ones(6, 6).double()}}, TreeError, "is float64"),
        (lambda s: {n: t for n, t in s.items() if n != "params"}, TreeError, "the saved params: missing"),
        (lambda s: {n: t for n, t in s.items() if n != "optimizer"}, TreeError, r"the saved optimizer\.\w+: missing"),
        (
            lambda s: {n: t for n, t in s.items() if n != "step"},
            StateError,
            r"has step=None: pass what step.state_dict",
        ),
        *(
            (lambda s, step=step: {**s, "step": step}, StateError, "has step=.*: pass what step.state_dict")
            for step in (True, -1, 1.0, torch.tensor(-1), torch.tensor(True), torch.tensor(1.0), torch.tensor([1, 2]))
        ),
        (lambda s: {**s, "params": 3}, StateError, "has params=int: pass what step.state_dict returned"),
        (lambda s: 3, StateError, "pass what step.state_dict returned"),
    ],
)
def test_a_saved_state_that_does_not_fit_names_the_leaf(step, state, change, error, text):
    with pytest.raises(error, match=text):
        step.load(state, change(step.state_dict(state)))


def test_leaves_of_other_ranks_may_be_among_the_saved(step, state):
    saved = step.state_dict(state)
    saved = {**saved, "params": saved["params"] | {"elsewhere": torch.ones(1)}}
    assert same_bits(step.gather(step.load(state, saved))[0], params_of())


def test_a_consumed_state_is_not_loaded_into(step, state):
    saved = step.state_dict(state)
    step(state, batch_of())
    with pytest.raises(StateError, match="was consumed"):
        step.load(state, saved)


def test_meta_parameters_have_no_values(step):
    meta = {"first": {n: t.to("meta") for n, t in params_of()["first"].items()}, "rest": params_of()["rest"]}
    with pytest.raises(StateError, match=r"leaf 'first.bias' is on the meta device and has no values: .* step\.trace"):
        step.init(meta, batch_of())


def test_a_saved_count_may_be_a_tensor(step, state):
    assert step.load(state, {**step.state_dict(state), "step": torch.tensor(7)}).step == 7


def test_the_default_device_of_the_moment_changes_nothing(step):
    params, batch = params_of(), batch_of()
    with torch.device("meta"):
        state, metrics = step(step.init(params, batch), batch)
        state = step.load(state, step.state_dict(state))
    assert {value.device.type for value in state.values.values()} == {"cpu"}
    assert state.step == 1
    assert torch.equal(metrics["loss"], trained(step_of(), params, [batch])[1][0])


def test_every_buffer_is_held_where_it_is_gathered_from():
    """One that is read and updated, one that is only updated, one that is only read, and one that is not used."""

    def loss(params, batch, *, buffers):
        h = fp.mark_stage_end(torch.tanh(batch["x"] @ params["w"] * buffers["scale"]))
        found = (h * buffers["count"]).square().mean()
        return fp.Out(found, buffers=buffers | {"last": found.detach(), "count": buffers["count"] + 1})

    params = {"w": torch.ones(5, 2, requires_grad=True)}
    held = {n: torch.tensor(1.0) for n in ("count", "last", "scale", "unused")}
    traced = fp.trace(loss, params, batch_of(), buffers=held)
    cuts = tuple(mark.position for mark in traced.marks)
    programs = fp.programs.lower(traced, fp.stages.partition(traced, cuts), OneFOneB().table(2, 2))
    values = [initial_values(programs, p, params, held, None, torch.device("cpu")) for p in programs.programs]
    homes = {n: _home_of_buffer(programs, n) for n in held}
    assert homes == {"count": 1, "last": 1, "scale": 0, "unused": 0}
    assert all([f"buffer.{n}" in v for v in values] == [home == 0, home == 1] for n, home in homes.items())
