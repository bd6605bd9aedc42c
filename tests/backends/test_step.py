"""Whole steps, compiled: what is in the code that came out, and what it computes."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from funpipe import optim
from funpipe._errors import CompileError
from funpipe.backends import Request, compile, step
from funpipe.backends.emit import emit
from funpipe.backends.installed import new_handle
from funpipe.functional import mark_stage_end
from funpipe.passes import optimize
from funpipe.programs import lower
from funpipe.schedules import OneFOneB, merge
from tests.backends.ranks import Ranks, example_of, expected, inputs_of
from tests.programs.models import MODELS, chain, programs_of, stages_of, tied, traced_of

ROOT = Path(__file__).resolve().parent.parent.parent
CLIPPED = optim.chain(optim.clip_by_global_norm(0.1), optim.adamw(1e-2))
ADAMW = optim.adamw(1e-2)


def merged(num_microbatches):
    """Four stages on one rank."""
    traced = traced_of(chain)
    table = merge(OneFOneB().table(4, num_microbatches))
    return optimize(lower(traced, stages_of(traced, 4), table, optimizer=ADAMW))


@pytest.fixture(scope="module")
def whole():
    """One rank that plays four stages: `(programs, ranks)`."""
    programs = merged(4)
    return programs, Ranks("step", programs, ADAMW)


@pytest.fixture(scope="module")
def pair():
    """Two ranks with a tied leaf and a clipped norm: every kind of communication."""
    programs = optimize(programs_of(tied, 2, 3, optimizer=CLIPPED))
    return programs, Ranks("step", programs, CLIPPED)


def body(code):
    """The lines of the generated function that runs the step."""
    lines = code[code.index("def call(self, args)") :].splitlines()
    return [line.strip() for line in lines if line.strip()]


def test_each_distinct_region_is_compiled_once_whatever_the_number_of_microbatches(whole):
    """Stages of equal layers share their regions: here the first three forwards, and two of the backwards."""
    made = emit(whole[0], 0, ADAMW, 1)
    compiled = set(re.findall(r"^def (\w*subgraph\w*)\(", whole[1].executables[0].code, re.MULTILINE))
    assert len(made.regions) == 9 and len(compiled) == len(set(made.first.values())) == 6
    assert emit(merged(32), 0, ADAMW, 1).first == made.first


def test_regions_are_called_as_often_as_the_program_runs_them(whole):
    calls = [line for line in body(whole[1].executables[0].code) if re.search(r"= \w*subgraph\w*\(", line)]
    assert len(calls) == 4 * 4 * 2 + 1  # stages, microbatches, forward and backward; and the optimizer's scalars


def test_the_update_is_at_most_one_kernel_for_each_bucket(whole):
    """Gradients are added in the backwards, so only zeros for the accumulators are made beside the update."""
    kernels = [line for line in body(whole[1].executables[0].code) if re.match(r"cpp_fused\w*\(", line)]
    updates = [line for line in kernels if not line.startswith("cpp_fused_zeros")]
    assert 1 <= len(updates) <= len(whole[0].layout.buckets)


def test_no_parameter_is_copied(whole):
    """State is overwritten by the kernels themselves."""
    lines = body(whole[1].executables[0].code)
    assert [line for line in lines if "copy_(" in line and not line.startswith("cpp_")] == []


def test_four_stages_in_one_function_compute_what_the_interpreter_does(whole):
    programs, ranks = whole
    inputs = inputs_of(programs, chain)
    (found,) = ranks.run(inputs)
    for name, value in expected(programs, inputs, ADAMW)[0].items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert found["step"] == 1


def test_state_is_overwritten_in_the_memory_that_was_passed(whole):
    programs, ranks = whole
    inputs = [t.clone() for t in inputs_of(programs, chain)[0].values()]
    found = ranks.executables[0](inputs)
    for name, tensor in zip(programs.programs[0].inputs, inputs, strict=True):
        assert found[name] is tensor


def test_settings_that_change_after_compiling_do_no_harm(whole):
    programs, ranks = whole
    inputs = inputs_of(programs, chain)
    before = ranks.run(inputs)[0]["loss"]
    with torch.enable_grad(), torch.autocast("cpu"):
        after = ranks.executables[0]([t.clone() for t in inputs[0].values()])["loss"]
    assert torch.equal(after, before)


def test_no_gradient_leaks_from_parameters_that_require_one(whole):
    inputs = [{n: t.requires_grad_(t.is_floating_point()) for n, t in v.items()} for v in inputs_of(whole[0], chain)]
    (found,) = whole[1].run(inputs)
    assert not found["loss"].requires_grad


def alike(params, batch):
    """Stages whose regions take arguments of the same types and do different things."""
    h = mark_stage_end(torch.tanh(batch["x"] @ params["w0"]))
    h = mark_stage_end(torch.sin(h @ params["w1"]))
    h = mark_stage_end(torch.cos(h @ params["w2"]) + 1)
    return torch.nn.functional.mse_loss(h @ params["w3"], batch["y"])


def test_regions_that_take_the_same_types_are_not_mixed_up():
    traced = traced_of(alike)
    programs = optimize(lower(traced, stages_of(traced, 4), merge(OneFOneB().table(4, 2))))
    inputs = inputs_of(programs, alike)
    (found,) = Ranks("step", programs, None).run(inputs)
    for name, value in expected(programs, inputs, None)[0].items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_two_ranks_compute_what_the_interpreter_does(pair):
    programs, ranks = pair
    inputs = inputs_of(programs, tied)
    found = ranks.run(inputs)
    for rank, values in enumerate(expected(programs, inputs, CLIPPED)):
        for name, value in values.items():
            torch.testing.assert_close(found[rank][name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_the_copies_of_a_tied_leaf_stay_equal_to_the_bit(pair):
    programs, ranks = pair
    bucket, slot = programs.layout.home("words")
    found = ranks.run(inputs_of(programs, tied))
    assert torch.equal(slot.view(found[0][f"bucket.{bucket.name}"]), found[1]["leaf.words"])


def test_a_step_prints_the_program_and_its_source(pair):
    text = pair[1].executables[0].as_text()
    assert text.startswith("rank 0 stages (0)") and "def step(token, v0" in text


def test_fused_regions_stay_close_to_exact_ones(whole):
    programs, ranks = whole
    inputs = inputs_of(programs, chain)
    exact = ranks.run(inputs)[0]["loss"]
    fast = Ranks("step", programs, ADAMW, fuse=True).run(inputs)[0]["loss"]
    assert abs(fast - exact) <= 1e-6 * abs(exact)


def test_communication_in_another_order_is_caught_before_anything_runs(monkeypatch):
    def swapped(*args):
        made = emit(*args)
        lines = made.source.splitlines()
        at = next(i for i, line in enumerate(lines) if "ops.send" in line)
        other = next(i for i in range(at + 1, len(lines)) if "ops.post_recv" in lines[i])
        lines[at], lines[other] = lines[other], lines[at]
        return replace(made, source="\n".join(lines))

    monkeypatch.setattr(step, "emit", swapped)
    programs = optimize(programs_of(chain, 2, 2))
    with pytest.raises(CompileError, match="rank 0: the compiler moved communication: operation .* should be 'send 0'"):
        compile("step", programs, Request(0, new_handle()), None, example_of(programs, 0))


def test_an_operator_that_cannot_be_compiled_is_an_error_with_the_remedy(monkeypatch):
    monkeypatch.setattr(step, "emit", _broken)
    programs = optimize(programs_of(chain, 2, 2))
    with pytest.raises(CompileError, match="rank 0: the step cannot be compiled: .*Use backend='interpret'") as raised:
        compile("step", programs, Request(0, new_handle()), None, example_of(programs, 0))
    assert raised.value.__cause__ is not None


def _broken(*args):
    """A step with a line that no compiler can take whole."""
    made = emit(*args)
    head, _, rest = made.source.partition("\n")
    source = f"{head}\n    print(v0.sum().item())\n{rest}"
    return replace(made, source=source)


@pytest.mark.full
@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
def test_every_model_on_three_ranks(loss_fn):
    programs = optimize(programs_of(loss_fn, 3, 4, optimizer=CLIPPED))
    inputs = inputs_of(programs, loss_fn)
    found = Ranks("step", programs, CLIPPED).run(inputs)
    for rank, values in enumerate(expected(programs, inputs, CLIPPED)):
        for name, value in values.items():
            torch.testing.assert_close(found[rank][name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.full
def test_the_order_can_be_read_back_when_the_compilers_caches_are_warm(tmp_path):
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.backends.warm_start"]
    counts = []
    for _ in range(2):
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        counts.append(int(done.stdout))
    assert counts == [8, 8]
