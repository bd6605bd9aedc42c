"""Split backwards and overlaps in the compiled forms: the interpreter's bits, and those of regions called alone."""

from random import Random

import pytest
import torch

from funpipe import optim
from funpipe.backends.emit import emit
from funpipe.backends.overlap import both, in_turns
from funpipe.passes import optimize
from funpipe.programs import lower, verify
from funpipe.schedules import Table, Task
from tests.backends.ranks import Ranks, expected, inputs_of
from tests.backends.uncompiled import uncompiled
from tests.programs.models import MODELS, chain, stages_of, tied, traced_of
from tests.split_tables import random_table


def programs_for(loss_fn, table, optimizer=None):
    traced = traced_of(loss_fn)
    return optimize(lower(traced, stages_of(traced, table.num_stages), table, optimizer=optimizer))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
def test_the_source_of_a_step_does_what_the_interpreter_does(loss_fn, seed):
    optimizer = optim.adamw(1e-2)
    programs = programs_for(loss_fn, random_table(Random(seed), 4, 3, 2), optimizer)
    inputs = inputs_of(programs, loss_fn)
    found = Ranks(uncompiled, programs, optimizer).run(inputs)
    for rank, values in enumerate(expected(programs, inputs, optimizer)):
        assert all(torch.equal(found[rank][name], value) for name, value in values.items())


def overlapping(num_microbatches=3) -> Table:
    """One rank with all of two stages: each forward of the first runs beside the last whole backward."""
    rows = "0F0 1F0 0F1&1B0 0B0 1F1 0F2&1B1 0B1 1F2 1I2 1W2 0W2"
    return Table.parse(f"stage -> rank: 0 0; microbatches: 3\nrank 0 | {rows}")


def test_two_at_once_are_one_call_that_adds_to_the_accumulators():
    emitted = emit(programs_for(tied, overlapping()), 0, None, 0)
    assert emitted.graphs["F0_B1"].parts == ("F0", "B1")
    assert emitted.source.count("F0_B1(arguments)") == 2
    nodes = [n.op for n in emitted.graphs["F0_B1"].module.graph.nodes]
    inputs = [len(emitted.graphs[name].types) for name in ("F0", "B1")]
    assert nodes.count("placeholder") == sum(inputs)


def test_the_operators_of_both_take_turns():
    programs = programs_for(chain, overlapping())
    F0, B1 = (programs.regions[name].module for name in ("F0", "B1"))
    made = both(F0.graph, B1.graph)
    torch.manual_seed(0)
    inputs = [[torch.randn(n.meta["val"].shape) for n in m.graph.find_nodes(op="placeholder")] for m in (F0, B1)]
    wanted = (*F0(*inputs[0]), *B1(*inputs[1]))
    assert all(torch.equal(a, b) for a, b in zip(made(*inputs[0], *inputs[1]), wanted, strict=True))
    calls = [n.target for n in made.graph.nodes if n.op == "call_function"]
    first = [n.target for n in F0.graph.nodes if n.op == "call_function"]
    assert calls[: len(first)] != first  # not one after the other


def test_the_order_of_each_is_kept():
    found = in_turns([("a", 3.0), ("b", 1.0)], [("x", 1.0), ("y", 1.0)], lambda item: item[1])
    assert [name for name, _ in found] == ["x", "a", "y", "b"]


def test_an_overlap_holds_both_results_at_once():
    pair = programs_for(chain, overlapping())
    row = [task for cell in overlapping().order(0) for task in tasks(cell)]
    apart = Table.from_rows([row], placement=(0, 0), num_microbatches=3)
    assert verify(pair).peak_memory[0] >= verify(programs_for(chain, apart)).peak_memory[0]


def tasks(cell):
    return (cell,) if isinstance(cell, Task) else tuple(cell)
