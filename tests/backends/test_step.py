"""Whole steps, compiled: what is in the code that came out, and what it computes.

Compiles, because what the compiler makes of a step is what is looked at: a small program once for the whole file.
"""

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
from funpipe.backends.emit import Lines, emit
from funpipe.backends.inductor import Source
from funpipe.backends.installed import new_handle
from funpipe.backends.link import Linked, one_by_one
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


def entry(code):
    """The function of generated C++ code that allocates, calls kernels and calls libraries."""
    return code[code.index("void inductor_entry_impl(") : code.index("} // inductor_entry_impl")]


def sizes(code):
    """The number of elements of each buffer that generated code allocates."""
    shapes = dict(re.findall(r"(int_array_\d+)(?:\[\] = \{(.*?)\}|=nullptr)", code))
    allocated = re.findall(r"aoti_torch_empty_strided\w*\(\d+, (int_array_\d+)", entry(code))
    return [torch.Size(int(n) for n in re.findall(r"\d+", shapes[name])).numel() for name in allocated]


def test_equal_stages_share_their_code(whole):
    """Four stages and an update are six compiled graphs: here the first three forwards are one, and two backwards."""
    (executable,) = whole[1].executables
    assert {name: len(texts) for name, texts in executable.code.items()} == {
        "scalars": 0,
        **{f"{kind}{stage}": 1 for kind in "FB" for stage in range(4)},
        "block0": 1,
    }
    assert len({text for texts in executable.code.values() for text in texts}) == 6


def test_the_update_is_one_kernel_for_each_bucket_at_most(whole):
    programs, ranks = whole
    (code,) = ranks.executables[0].code["block0"]
    kernels = re.findall(r"\bcpp_fused\w+\(", entry(code))
    assert 1 <= len(kernels) <= len(programs.layout.buckets)


def test_an_update_makes_no_buffer_of_a_buckets_size(whole, pair):
    """Parameters, slots and gradients are read and written where they are."""
    for programs, ranks in (whole, pair):
        smallest = min(bucket.size for bucket in programs.layout.buckets)
        for executable in ranks.executables:
            blocks = [text for name, texts in executable.code.items() if name.startswith("block") for text in texts]
            assert blocks and all(size < smallest for text in blocks for size in sizes(text))


def test_neither_parameters_nor_gradients_are_copied(whole, pair):
    """The step's source copies what another rank sent, and rows that are not aligned; generated code copies nothing."""
    for programs, ranks in (whole, pair):
        arrived = {i.value for p in programs.programs for i in p.instructions if type(i).__name__ == "WaitRecv"}
        for executable in ranks.executables:
            copies = re.findall(r"copy_\(", executable.emitted.source)
            assert len(copies) <= sum(name.startswith("acc.") for name in arrived)
            assert all(".narrow(" in line for line in executable.emitted.source.splitlines() if ".clone(" in line)
            for text in (text for texts in executable.code.values() for text in texts):
                assert not re.search(r"aoti_torch_\w*(copy_|clone)", entry(text))


def test_gradients_are_added_inside_the_kernels(whole):
    """Not by a call of its own: no library adds outside of what the compiler wrote."""
    for text in (text for texts in whole[1].executables[0].code.values() for text in texts):
        assert not re.search(r"aoti_torch_\w*add", entry(text))


def test_four_stages_in_one_function_compute_what_the_interpreter_does(whole):
    programs, ranks = whole
    inputs = inputs_of(programs, chain)
    (found,) = ranks.run(inputs)
    for name, value in expected(programs, inputs, ADAMW)[0].items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert found["step"] == 1


def test_more_microbatches_call_the_same_code():
    """A step of 32 finds the regions that a step of four has left on this machine; the update divides by 32."""
    keys = [
        {n: Source(n, g.module, g.types).key for n, g in emit(merged(count), 0, ADAMW, 1).graphs.items()}
        for count in (4, 32)
    ]
    assert keys[0].keys() == keys[1].keys()
    assert [n for n in keys[0] if keys[0][n] != keys[1][n]] == ["block0"]


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


def test_a_step_prints_its_source(pair):
    text = pair[1].executables[0].as_text()
    assert text.startswith("rank 0 stages (0)") and "def step(token, v0" in text


def test_fused_regions_stay_close_to_exact_ones(whole):
    programs, ranks = whole
    inputs = inputs_of(programs, chain)
    exact = ranks.run(inputs)[0]["loss"]
    fast = Ranks("step", programs, ADAMW, fuse=True).run(inputs)[0]["loss"]
    assert abs(fast - exact) <= 1e-6 * abs(exact)


def rewritten(monkeypatch, edit):
    """`compile` for programs whose source has been edited after it was written: `edit(body)` gives another body."""

    def edited(*args):
        made = emit(*args)
        return replace(made, body=tuple(edit(list(made.body))))

    def uncompiled(graphs, report, others):
        return Linked({n: one_by_one(g.module) for n, g in graphs.items()}, {}, dict.fromkeys(graphs, ()))

    monkeypatch.setattr(step, "emit", edited)
    monkeypatch.setattr(step, "link", uncompiled)  # the source calls graphs; what is in them plays no part


def swapped(body):
    """The first send in the place of the receive that is posted behind it."""
    at = next(i for i, lines in enumerate(body) if "ops.send" in lines.text[0])
    other = next(i for i in range(at + 1, len(body)) if "ops.post_recv" in body[i].text[0])
    body[at], body[other] = body[other], body[at]
    return body


@pytest.mark.parametrize("fuse", [False, True], ids=["exact", "fast"])
def test_communication_in_another_order_is_caught_before_anything_runs(monkeypatch, fuse):
    """Fused, it is read back from what the compiler wrote."""
    rewritten(monkeypatch, swapped)
    programs = optimize(programs_of(chain, 2, 2))
    text = "rank 0: the compiler moved communication: operation . should be 'send 0' and is 'post_recv 2'"
    with pytest.raises(CompileError, match=text):
        compile("step", programs, Request(0, new_handle(), fuse), None, example_of(programs, 0))


@pytest.mark.parametrize("name", ["send", "wait_send", "post_recv", "wait_recv"])
def test_a_missing_operation_is_caught(monkeypatch, name):
    rewritten(monkeypatch, lambda body: [lines for lines in body if f"ops.{name}(" not in "".join(lines.text)])
    programs = optimize(programs_of(chain, 2, 2))
    with pytest.raises(CompileError, match=f"rank 0: the compiler moved communication: .*should be '{name} "):
        compile("step", programs, Request(0, new_handle()), None, example_of(programs, 0))


def test_a_line_that_cannot_be_compiled_is_an_error_with_the_remedy(monkeypatch):
    """Only where the whole step is compiled: with numerics="exact" its source is Python."""
    rewritten(monkeypatch, lambda body: [Lines((), ("print(v0.sum().item())",)), *body])
    programs = optimize(programs_of(chain, 2, 2))
    with pytest.raises(CompileError, match="rank 0: the step cannot be compiled: .*Use backend='interpret'") as raised:
        compile("step", programs, Request(0, new_handle(), fuse=True), None, example_of(programs, 0))
    assert raised.value.__cause__ is not None


@pytest.mark.full
@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
def test_every_model_on_three_ranks(loss_fn):
    programs = optimize(programs_of(loss_fn, 3, 4, optimizer=CLIPPED))
    inputs = inputs_of(programs, loss_fn)
    found = Ranks("step", programs, CLIPPED).run(inputs)
    for rank, values in enumerate(expected(programs, inputs, CLIPPED)):
        for name, value in values.items():
            torch.testing.assert_close(found[rank][name], value, rtol=1e-5, atol=1e-6, msg=name)


def warm_start(folder, *ways, **environment):
    """Runs `warm_start.py`: how many graphs it wrote, how often it communicates, and how often a library was built."""
    log, wrapper = folder / "log", folder / "g++"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec g++ "$@"\n')
    wrapper.chmod(0o755)
    log.write_text("")
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(folder / "cache"), "CXX": str(wrapper)} | environment
    command = [sys.executable, "-m", "tests.backends.warm_start", *ways]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written, communicated = map(int, done.stdout.split())
    return written, communicated, log.read_text().count("-shared")


@pytest.mark.full
def test_a_second_process_compiles_nothing(tmp_path):
    """What the first has written it finds: no graph is written, and no library built."""
    written, _, built = warm_start(tmp_path, "exact")
    assert written == 3 and built >= 3
    assert warm_start(tmp_path, "exact") == (0, 0, 0)


@pytest.mark.full
def test_the_order_can_be_read_back_when_the_compilers_caches_are_warm(tmp_path):
    """Fused, the code is the compiler's own to keep; found again, it is read like code that has just been written."""
    assert [warm_start(tmp_path, "fast")[1] for _ in range(2)] == [8, 8]


@pytest.mark.full
def test_without_the_compilers_caches_every_process_compiles(tmp_path):
    for _ in range(2):
        written, _, _ = warm_start(tmp_path, "exact", TORCHINDUCTOR_FORCE_DISABLE_CACHES="1")
        assert written == 3
    assert not (tmp_path / "cache" / "funpipe").exists()
