"""A train step as a graph: state and results in both forms."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import RotateError, StateError, TreeError
from funpipe.passes import updates
from tests.api.models import batch_of, batches, loss_fn, params_of, same_bits, step_of, trained
from tests.api.ranks import APPLY_NORMALIZED, CLIPPED, Normalized, normalized_loss, weighted


def run_as_graph(step, params, data, **kept):
    """The state after a step on each batch, and the losses."""
    values = step.values_of(step.init(params, data[0], **kept))
    compiled, losses = fp.compile_step(step.as_graph(), backend="interpret"), []
    for batch in data:
        values, aux = compiled(values, batch)
        losses.append(step.metrics_of(aux)["loss"])
    return step.state_of(values), losses


def saved(step, state):
    """The tensors of a state dict."""
    return {name: part for name, part in step.state_dict(state).items() if name != "step"}


@pytest.mark.parametrize("loss", [loss_fn, weighted])
def test_both_forms_give_the_same_bits(loss):
    one, other = step_of(loss, CLIPPED), step_of(loss, CLIPPED)
    data = list(batches(3))
    state, losses = run_as_graph(one, params_of(), data)
    wanted, wanted_losses = trained(other, params_of(), data)
    assert same_bits(losses, wanted_losses)
    assert same_bits(saved(one, state), saved(other, wanted))
    assert state.step == 3


def test_all_metrics():
    step = step_of(weighted, CLIPPED)
    values = step.values_of(step.init(params_of(), batch_of()))
    _, aux = fp.compile_step(step.as_graph(), backend="interpret")(values, batch_of())
    other = step_of(weighted, CLIPPED)
    _, wanted = other(other.init(params_of(), batch_of()), batch_of())
    assert same_bits(dict(step.metrics_of(aux)), dict(wanted))


def test_buffers():
    _, params, buffers = fp.functionalize(Normalized())
    one, other = (step_of(normalized_loss, num_microbatches=2) for _ in range(2))
    data = list(batches(2, rows=16))
    state, _ = run_as_graph(one, params, data, buffers=buffers)
    wanted, _ = trained(other, params, data, buffers=buffers)
    assert same_bits(one.gather(state), other.gather(wanted))


def test_a_buffer_that_nothing_reads_is_kept():
    def loss(params, batch, *, buffers):
        out, new = APPLY_NORMALIZED(params, {n: b for n, b in buffers.items() if n != "unread"}, batch["x"])
        return fp.Out((out - batch["y"]).square().mean(), buffers=new | {"unread": buffers["unread"]})

    _, params, buffers = fp.functionalize(Normalized())
    step = step_of(loss, num_microbatches=2)
    data = list(batches(1, rows=16))
    state, _ = run_as_graph(step, params, data, buffers=buffers | {"unread": torch.ones(2)})
    assert torch.equal(step.gather(state)[1]["unread"], torch.ones(2))


def test_a_rotated_step_over_it():
    step, other = step_of(loss_fn, CLIPPED), step_of(loss_fn, CLIPPED)
    data = list(batches(3))
    values = step.values_of(step.init(params_of(), data[0]))
    rotated = fp.rotate(step.as_graph(), updates(lambda name: name.startswith("bucket.")))
    state = rotated.init(values)
    for batch in data:
        state, _ = rotated.step(state, batch)
    with pytest.raises(RotateError, match=r"the state: the update of .* is still open: flush this Pending state first"):
        step.state_dict(state)
    with pytest.raises(RotateError, match=r"is still open: flush this Pending state first"):
        step.state_of(state)
    found = step.state_of(rotated.flush(state).state)
    assert same_bits(saved(step, found), saved(other, trained(other, params_of(), data)[0]))


def test_taking_the_values_consumes_the_state():
    step = step_of()
    state = step.init(params_of(), batch_of())
    assert "bucket.s0_float32" in step.values_of(state)
    with pytest.raises(StateError, match=r"was consumed"):
        step.values_of(state)


def test_values_of_another_step():
    step = step_of()
    values = step.values_of(step.init(params_of(), batch_of()))
    with pytest.raises(TreeError, match=r"state: .*'slot\.momentum\.s0_float32'"):
        step.state_of({n: v for n, v in values.items() if not n.startswith("slot.")})
    with pytest.raises(TreeError, match=r"'bucket\.s0_float32' is float64"):
        step.state_of(values | {"bucket.s0_float32": values["bucket.s0_float32"].double()})


def test_before_there_is_a_state():
    with pytest.raises(StateError, match=r"call step\.init\(params, batch\) first"):
        step_of().as_graph()
