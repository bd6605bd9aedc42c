"""Conditions of compiled code, kept beside it."""

from funpipe.backends.dynamic.holds import holds, with_conditions


def test_all_conditions_must_hold():
    code = with_conditions("x = 1", "s3", ["s3 >= 2", "Ne(Mod(s3, 3), 0)"])
    assert [holds(code, n) for n in (1, 2, 3, 4)] == [False, True, False, True]
    assert code.endswith("x = 1")


def test_code_that_says_nothing_or_what_cannot_be_read_holds_nowhere():
    assert not holds("x = 1", 4)
    assert not holds(with_conditions("", "s", ["Unknown(s, 2)"]), 4)
    assert not holds(with_conditions("", "s", ["s +"]), 4)
    assert not holds(with_conditions("", "s", ["Mod(4, s - 4)"]), 4)


def test_a_condition_cannot_call_what_is_no_arithmetic():
    assert not holds(with_conditions("", "s", ["__import__('os')"]), 4)
