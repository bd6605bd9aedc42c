"""What a choice takes, and the best one at a price."""

import hypothesis.strategies as st
from hypothesis import given, settings

from funpipe.stages.choices import Values
from tests.stages.saving_problems import all_choices, problems


@given(problems(), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=100, derandomize=True)
def test_at_a_fixed_price_no_choice_is_better(values, per_byte, per_cost):
    found = values.best(per_byte, per_cost)
    prices = [per_byte * c.nbytes + per_cost * c.cost for c in all_choices(values)]
    assert per_byte * found.nbytes + per_cost * found.cost == min(prices)


@given(problems())
@settings(max_examples=100, derandomize=True)
def test_the_smallest_and_the_fastest(values):
    pairs = [(c.nbytes, c.cost) for c in all_choices(values)]
    assert (values.smallest.nbytes, values.smallest.cost) == min(pairs)
    assert (values.fastest.cost, values.fastest.nbytes) == min((cost, nbytes) for nbytes, cost in pairs)


@given(problems())
@settings(max_examples=100, derandomize=True)
def test_the_backward_gets_all_it_reads(values):
    for choice in (values.all_saved, values.none_saved, values.smallest):
        there = {*choice.saved, *choice.again}
        assert there >= {*values.wanted, *(r for v in choice.again for r in values.reads[v])}
        assert not {*choice.saved} & {*choice.again}
        assert all(values.nbytes[v] is not None for v in choice.saved)
        assert all(values.cost[v] is not None for v in choice.again)


def test_a_choice_uses_of_what_is_saved_what_it_needs():
    values = Values(((), (0,), (1,), (2,)), (None, 8, 8, 8), (0, 5, 6, 7), (3,))
    assert values.choice([1, 3]).saved == (3,)
    assert (values.choice([1]).again, values.choice([1]).cost) == ((2, 3), 13)
    assert values.none_saved.again == (0, 1, 2, 3)
