"""A step in two parts: numbers on the host, the rest on the device."""

from dataclasses import replace

import pytest
import torch

from funpipe import optim
from funpipe.backends import Request, step
from funpipe.backends.emit import emit
from funpipe.backends.numbers import parted
from funpipe.passes import optimize
from funpipe.programs import lower
from funpipe.schedules import OneFOneB, merge
from tests.backends.ranks import example_of, expected, inputs_of
from tests.programs.models import chain, normalized, programs_of, skipping, stages_of, traced_of, weighted

ADAMW = optim.adamw(1e-2)


def merged():
    """One stage and two microbatches on one rank."""
    traced = traced_of(chain)
    return optimize(lower(traced, stages_of(traced, 1), merge(OneFOneB().table(1, 2)), optimizer=ADAMW))


def test_the_numbers_are_worked_out_before_the_step_is_counted():
    parts = parted(emit(merged(), 0, ADAMW, 1))
    lines = parts.numbers.splitlines()
    assert parts.position == 3 and lines[0] == "def numbers(v3, numbers):"
    assert lines[-1] == "    v3.add_(1)" and "= scalars(arguments)" in parts.numbers
    assert lines.index("        number.copy_(value, non_blocking=True)") == len(lines) - 2


def test_the_rest_takes_the_numbers_and_touches_nothing_of_the_host():
    whole = emit(merged(), 0, ADAMW, 1)
    rest = parted(whole).rest
    assert whole.numbers and rest.head == whole.head[:-2] + "".join(f", {n}" for n in whole.numbers) + "):"
    assert "scalars(" not in rest.source and ".add_(1)" not in rest.source
    kept = [lines for lines in whole.body if not lines.on_host]
    assert list(rest.body) == kept and len(kept) == len(whole.body) - 2


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this torch knows no GPUs")
@pytest.mark.parametrize("loss_fn", [chain, skipping, weighted, normalized], ids=lambda f: f.__name__)
def test_for_a_gpu_the_rest_has_nothing_on_the_host(loss_fn):
    """Traced for a GPU, which need not be there: a number on the host would be fixed in a recording."""
    clipped = optim.chain(optim.clip_by_global_norm(0.1), ADAMW)
    traced = traced_of(loss_fn)
    programs = optimize(lower(traced, stages_of(traced, 2), merge(OneFOneB().table(2, 2)), optimizer=clipped))
    kinds = {n: kind if n == "step" else replace(kind, device="cuda") for n, kind in programs.types.items()}
    rest = parted(emit(replace(programs, types=kinds), 0, clipped, 1)).rest
    blocks = [graph for name, graph in rest.graphs.items() if name.startswith("block")]
    values = [n.meta["val"] for graph in blocks for n in graph.module.graph.nodes if "val" in n.meta]
    assert blocks and {kind.device for graph in blocks for kind in graph.types} == {"cuda"}
    assert {value.device.type for value in values if isinstance(value, torch.Tensor)} == {"cuda"}


def test_without_an_update_there_are_no_numbers():
    assert parted(emit(optimize(programs_of(chain, 2, 2)), 0, None, 1)) is None


def test_compiled_in_two_parts_a_step_is_the_same():
    programs = merged()
    emitted = emit(programs, 0, ADAMW, 1)
    example = example_of(programs, 0)
    made = step.whole(programs.programs[0], emitted, Request(0, 1), example, "cpu", apart=True)
    inputs = inputs_of(programs, chain)
    found = made([inputs[0][n].clone() for n in programs.programs[0].inputs])
    for name, value in expected(programs, inputs, ADAMW)[0].items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert found["step"] == 1 and all(t.eq(0).all() for t in example)
    assert "def numbers(v3, numbers):" in made.as_text()
