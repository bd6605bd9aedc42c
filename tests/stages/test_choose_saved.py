"""The choice is in the budget, and as cheap as that of a search through all choices."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from funpipe.stages.choices import Values
from funpipe.stages.choose_saved import SHARE, cheapest
from tests.stages.saving_problems import all_choices, problems

SLACK = 1 + 1 / SHARE + 0.002
"""What the search leaves undecided, and what it changes costs by."""


@given(problems(), st.integers(0, 60))
@settings(max_examples=200, derandomize=True)
def test_no_choice_in_the_budget_is_cheaper(values, budget):
    inside = [c.cost for c in all_choices(values) if c.nbytes <= budget]
    found = cheapest(values, budget)
    assert (found is None) == (not inside)
    if found is not None:
        assert found.nbytes <= budget
        assert found == values.choice(found.saved)
        assert found.cost <= min(inside) * SLACK


def layers(count: int, cheap: int = 1, dear: int = 10) -> Values:
    """Layers of a dear operation and a cheap one behind it, both of 10 bytes; the backward reads both."""
    reads = ((), *((v,) for v in range(2 * count)))
    return Values(reads, (10,) * (2 * count + 1), (None, *(dear, cheap) * count), tuple(range(1, 2 * count + 1)))


@pytest.mark.parametrize(("budget", "cost"), [(80, 0), (79, 1), (60, 2), (40, 4), (39, 14), (30, 14), (10, 34)])
def test_the_cheap_operation_of_every_layer_goes_first(budget, cost):
    """Four layers; with 10 bytes the first dear value is saved, and with it the input that it is computed from."""
    assert cheapest(layers(4), budget).cost == cost


def test_of_equal_layers_one_gives_way_after_the_other():
    found = [cheapest(layers(40), budget) for budget in (800, 700, 600, 500, 400)]
    assert [c.nbytes for c in found] == [800, 700, 600, 500, 400]
    assert [c.cost for c in found] == [0, 10, 20, 30, 40]


def test_what_spares_nothing_is_not_saved():
    """An operator of two results, which are taken out for nothing: a budget for one of them alone is not used."""
    values = Values(((), (0,), (1,), (1,)), (None, None, 8, 4), (0, 5, 0, 0), (2, 3))
    assert [cheapest(values, budget).nbytes for budget in (12, 11, 4, 0)] == [12, 0, 0, 0]


def test_nothing_fits():
    values = Values(((),), (8,), (None,), (0,))
    assert cheapest(values, 7) is None
    assert cheapest(values, 8) == values.all_saved
