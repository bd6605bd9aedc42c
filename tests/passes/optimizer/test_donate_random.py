"""`donate` on random steps with views, collectives in flight and lists, whose outputs lie anywhere."""

import operator
from random import Random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funpipe.graphs import Ref, check, simulate
from funpipe.graphs.from_fx import type_of
from funpipe.passes import donate
from tests.passes.optimizer.steps import assert_same_bits
from tests.passes.random_graphs import DTYPES, MESH, Steps, random_inputs

SHAPES = ((4,), (2, 4), ())


def grown(random: Random) -> Steps:
    """A step of views, sums, lists and collectives."""
    steps, flying = Steps(random), []
    for i in range(6):
        steps.input(f"state.{i}", random.choice(SHAPES), random.choice(DTYPES[:2]))
    while len(steps.nodes) < 30:
        action = random.random()
        if action < 0.15:
            flying += steps.start()
        elif action < 0.35 and flying:
            steps.wait(flying.pop(random.randrange(len(flying))))
        elif action < 0.5:
            lists(steps)
        elif action < 0.6:
            x = random.choice(steps.readable)
            steps.add(torch.ops.aten.view.default, Ref(x), [-1]) if steps.fakes[x].is_contiguous() else None
        else:
            steps.compute()
    for name in flying:
        steps.wait(name)
    return steps


def lists(steps: Steps) -> None:
    """A call over two lists of random values, and what it gives."""
    taken = steps.random.sample(steps.readable, 2)
    others = [steps.random.choice([n for n in steps.readable if alike(steps, n, name)]) for name in taken]
    call = steps.add(
        torch.ops.aten._foreach_add.List, [Ref(n) for n in taken], [Ref(n) for n in others], readable=False
    )
    for i in range(2):
        steps.add(operator.getitem, Ref(call), i, named=f"{call}_item{i}")


def alike(steps: Steps, one: str, other: str) -> bool:
    return type_of(steps.fakes[one]) == type_of(steps.fakes[other])


def step_of(random: Random):
    """A graph whose outputs are new leaves of the state, old ones, and other values."""
    steps = grown(random)
    made = [name for name in steps.readable if name not in steps.inputs]
    outputs = {}
    for leaf in steps.inputs:
        own = [name for name in (*made, *steps.inputs) if alike(steps, name, leaf)]
        outputs[leaf] = Ref(random.choice(own))
    some = random.sample(steps.readable, 2)
    return steps.graph([]).replace(outputs=outputs | {f"aux.{i}": Ref(name) for i, name in enumerate(some)})


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_bits_stay(seed):
    random = Random(seed)
    graph = step_of(random)
    inputs = random_inputs(graph, random)
    made = donate()(graph)
    check(made)
    expected = simulate(graph, [{n: x.clone() for n, x in own.items()} for own in inputs], MESH)
    for found, wanted in zip(simulate(made, inputs, MESH), expected, strict=True):
        assert_same_bits(found, wanted)


def test_many_leaves_are_overwritten():
    """The law would hold for a pass that does nothing."""
    changed = [donate()(graph).outputs != graph.outputs for graph in map(step_of, map(Random, range(20)))]
    assert sum(changed) > 10
