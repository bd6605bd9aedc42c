"""Steps that are recorded and replayed, on the CPU: `tape.Recorder` stands for the GPU."""

from dataclasses import replace

import pytest
import torch

from funpipe import optim
from funpipe._errors import CompileError
from funpipe.backends import Request
from funpipe.backends.captured import Captured
from funpipe.backends.emit import emit
from funpipe.backends.step import WholeStep
from funpipe.backends.timed import timed
from funpipe.passes import optimize
from funpipe.programs import lower
from funpipe.schedules import OneFOneB, merge
from tests.backends import tape
from tests.backends.ranks import example_of, inputs_of
from tests.backends.uncompiled import function, uncompiled, uncompiled_parts
from tests.programs.models import batch_of, chain, normalized, skipping, stages_of, traced_of

COUNT = 3
ADAMW = optim.adamw(optim.warmup_cosine(1e-1, 2, 6))
"""Every step has another learning rate, and other bias corrections."""


def programs_of(loss_fn):
    """Two stages on one rank."""
    traced = traced_of(loss_fn)
    table = merge(OneFOneB().table(2, COUNT))
    return optimize(lower(traced, stages_of(traced, 2), table, optimizer=ADAMW))


class Loop:
    """A training loop on an executable, another batch in each step."""

    def __init__(self, executable, programs, loss_fn):
        self.executable, self.names = executable, programs.programs[0].inputs
        self.outputs = programs.programs[0].outputs
        self.state = dict(zip(self.names, start(programs, loss_fn), strict=True))

    def run(self, seed):
        """The results of one step, and its state, as they are after it."""
        fresh = {f"batch.{n}": t for n, t in batch_of(COUNT, seed=seed).items()}
        found = self.executable([fresh.get(n, self.state[n]) for n in self.names])
        self.state = {n: found[n] for n in self.names}
        return {n: t.clone() for n, t in found.items() if not n.startswith("batch.")}


def start(programs, loss_fn):
    (values,) = inputs_of(programs, loss_fn)
    return [values[n].clone() for n in programs.programs[0].inputs]


def parts_of(programs):
    return uncompiled_parts(programs, Request(0, 1), ADAMW, example_of(programs, 0))


def captured_of(programs, recorder, **options):
    return Captured(parts_of(programs), recorder, **options)


def same(one, other):
    assert one.keys() == other.keys()
    assert [n for n in one if not torch.equal(one[n], other[n])] == []


@pytest.mark.parametrize("loss_fn", [chain, skipping, normalized], ids=lambda f: f.__name__)
def test_replays_have_the_bits_of_plain_steps(loss_fn):
    """Other batches, another learning rate in each step, and running statistics."""
    programs = programs_of(loss_fn)
    recorder = tape.Recorder()
    ours = Loop(captured_of(programs, recorder), programs, loss_fn)
    plain = Loop(uncompiled(programs, Request(0, 1), ADAMW, []), programs, loss_fn)
    for seed in range(5):
        same(ours.run(seed), plain.run(seed))
    assert recorder.replayed == 4 and len(recorder.tapes) == 1


def test_numbers_inside_a_recording_would_stay_those_of_the_recorded_step():
    """Why a step has two parts; and that the tests above can fail."""
    programs = programs_of(chain)
    emitted = emit(programs, 0, ADAMW, 1)
    whole = WholeStep(programs.programs[0], emitted, function(emitted), {})
    plain = Loop(uncompiled(programs, Request(0, 1), ADAMW, []), programs, chain)
    ours = Loop(None, programs, chain)
    ours.executable = Captured(whole, tape.Recorder([ours.state["step"]]))
    for seed in range(2):
        same(ours.run(seed), plain.run(seed))  # the recorded step itself has the right ones
    found, expected = ours.run(2), plain.run(2)
    assert [n for n in expected if not torch.equal(found[n], expected[n])] != []
    assert found["step"] != expected["step"]


def test_recording_a_step_runs_nothing():
    """The state after two steps is that of two, not of three."""
    programs = programs_of(chain)
    loop = Loop(captured_of(programs, tape.Recorder()), programs, chain)
    assert [loop.run(seed)["step"].item() for seed in range(4)] == [1, 2, 3, 4]


def test_results_stay_when_the_next_step_runs():
    programs = programs_of(skipping)
    loop = Loop(captured_of(programs, tape.Recorder()), programs, skipping)
    found = []
    for seed in range(4):
        fresh = {f"batch.{n}": t for n, t in batch_of(COUNT, seed=seed).items()}
        out = loop.executable([fresh.get(n, loop.state[n]) for n in loop.names])
        found.append({n: out[n] for n in loop.outputs if n not in loop.names})
    kept = [{n: t.clone() for n, t in results.items()} for results in found]
    loop.run(9)
    for results, before in zip(found, kept, strict=True):
        same(results, before)
    assert len({results["loss"].item() for results in found}) == 4


def test_a_batch_is_not_written_to():
    programs = programs_of(chain)
    loop = Loop(captured_of(programs, tape.Recorder()), programs, chain)
    batch = {f"batch.{n}": t for n, t in batch_of(COUNT, seed=1).items()}
    for seed in (1, 2, 3):
        loop.executable([batch.get(n, loop.state[n]) for n in loop.names])
        loop.run(seed)
    same(batch, {f"batch.{n}": t for n, t in batch_of(COUNT, seed=1).items()})


def test_another_state_is_not_written_over_and_is_recorded_in_its_turn():
    programs = programs_of(chain)
    recorder = tape.Recorder()
    captured = captured_of(programs, recorder)
    one, other = (Loop(captured, programs, chain) for _ in range(2))
    expected = Loop(uncompiled(programs, Request(0, 1), ADAMW, []), programs, chain)
    for seed in range(3):
        one.run(seed)
    before = {n: t.clone() for n, t in one.state.items()}
    for seed in range(4):
        same(other.run(seed), expected.run(seed))
    same(one.state, before)
    assert len(recorder.tapes) == 2
    assert "recorded 2 times" in captured.as_text()


def test_states_that_take_turns_are_never_recorded():
    programs = programs_of(chain)
    recorder = tape.Recorder()
    captured = captured_of(programs, recorder)
    loops = [Loop(captured, programs, chain) for _ in range(2)]
    for seed in range(6):
        loops[seed % 2].run(seed)
    assert recorder.tapes == []
    assert "at the second step in a row on the same state" in captured.as_text()


def test_an_evaluation_does_not_change_the_state():
    """What it makes of the buffers is thrown away."""
    programs = programs_of(normalized)
    ours = captured_of(programs, tape.Recorder(), writes=False)
    given = start(programs, normalized)
    names = programs.programs[0].inputs
    held = {n: t for n, t in zip(names, given, strict=True) if n.startswith("buffer.")}
    before = {n: t.clone() for n, t in held.items()}
    for _ in range(3):
        ours(given)
    same(held, before)


def refusing(run):
    raise RuntimeError("operation not permitted when stream is capturing\nmore lines")


def test_a_step_that_cannot_be_recorded_runs_as_it_is():
    programs = programs_of(chain)
    captured = captured_of(programs, refusing)
    ours = Loop(captured, programs, chain)
    plain = Loop(uncompiled(programs, Request(0, 1), ADAMW, []), programs, chain)
    for seed in range(4):
        same(ours.run(seed), plain.run(seed))
    assert "runs without a CUDA graph: operation not permitted when stream is capturing\n" in captured.as_text()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines"),
            "operation not permitted when stream is capturing. Something in it waits for the device, .*: take that out",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nmore"),
            r"memory\. .*: take more, smaller microbatches, or leave",
        ),
        (RuntimeError("CUDA error: invalid argument"), "invalid argument. If this is not in your hands, leave"),
    ],
    ids=["waits", "memory", "else"],
)
def test_if_a_recording_is_required_its_failure_is_an_error_with_its_cause(error, text):
    programs = programs_of(chain)

    def recorder(run):
        raise error

    loop = Loop(captured_of(programs, recorder, required=True), programs, chain)
    loop.run(0)
    with pytest.raises(CompileError, match=f"the step cannot become a CUDA graph: CUDA .*{text}") as caught:
        loop.run(1)
    assert str(caught.value).endswith(
        "leave cuda_graph='auto', with which a step that cannot be recorded runs without."
    )
    assert ("waits for the device" in str(caught.value)) is ("when stream is capturing" in str(error))


def test_it_says_when_it_is_replayed():
    programs = programs_of(chain)
    captured = captured_of(programs, tape.Recorder())
    loop = Loop(captured, programs, chain)
    loop.run(0), loop.run(1)
    assert "replayed as one CUDA graph, recorded once" in captured.as_text()


def test_a_profile_is_of_the_step_as_it_is():
    programs = programs_of(chain)
    captured = captured_of(programs, tape.Recorder())
    captured.step.code = dict.fromkeys(captured.step.emitted.graphs, ())
    watched = timed(captured)
    plain = Loop(uncompiled(programs, Request(0, 1), ADAMW, []), programs, chain)
    same(Loop(watched.executable, programs, chain).run(3), plain.run(3))
    assert len(watched.times) == len(watched.parts) + 1


def test_a_constant_may_change_between_steps():
    """A tensor that the loss function closes over is read anew in each step."""
    scale = torch.ones(())
    traced = traced_of(lambda params, batch: chain(params, batch) * scale)
    table = merge(OneFOneB().table(1, COUNT))
    programs = optimize(lower(traced, stages_of(traced, 1), table, optimizer=ADAMW))
    captured = captured_of(programs, tape.Recorder())
    names = programs.programs[0].inputs
    given = dict(zip(names, start_with(programs, scale), strict=True))
    (const,) = [n for n in names if n.startswith("const.")]
    losses = []
    for factor in (1.0, 1.0, 1.0, 0.0):
        found = captured([given[n] if n != const else torch.full((), factor) for n in names])
        losses.append(found["loss"].item())
    assert losses[2] != 0 and losses[3] == 0


def start_with(programs, const):
    bare = replace(programs.programs[0], inputs=tuple(n for n in programs.programs[0].inputs if n[:6] != "const."))
    (values,) = inputs_of(replace(programs, programs=(bare,)), chain)
    return [values[n] if n in values else const for n in programs.programs[0].inputs]
