from dataclasses import fields, replace
from typing import get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import ProgramError
from funpipe.programs import Program, parse
from funpipe.programs.instructions import Instruction, Overlap, Run, Scale, Zero
from funpipe.programs.text import instruction_text, parse_instruction
from tests.programs.models import MODELS, programs_of

numbers = st.integers(0, 99)
plain = st.from_regex(r"[a-z][\w.@]{0,8}", fullmatch=True)
# A leaf's name is whatever keys the user's tree has.
names = plain | st.builds("batch.{}".format, st.text(max_size=4))


def value_of(kind):
    """Any value of a field's type."""
    if get_origin(kind) is tuple:
        return st.lists(value_of(get_args(kind)[0]), max_size=3).map(tuple)
    if kind == int | str:
        return st.integers(1, 99) | plain
    if kind is Run:
        return instructions_of(kind)
    simple = {int: numbers, float: st.floats(0, 9), bool: st.booleans(), str: names}
    return simple[kind] if kind in simple else st.sampled_from(get_args(kind))


def instructions_of(kind):
    given = {n: value_of(t) for n, t in get_type_hints(kind).items() if n in {f.name for f in fields(kind)}}
    for field in fields(kind):
        if field.name in ("reads", "writes") and field.default == ():
            given.pop(field.name)
    return st.builds(kind, **given)


instructions = st.one_of(*(instructions_of(kind) for kind in get_args(Instruction)))


@given(instructions)
def test_any_instruction_reads_back_from_its_line(instruction):
    line = instruction_text(instruction)
    assert len(line.splitlines()) == 1
    assert parse_instruction(line) == instruction


@pytest.mark.parametrize("loss_fn", MODELS)
def test_lowered_programs_read_back(loss_fn):
    for program in programs_of(loss_fn, 3).programs:
        found = parse(program.as_text())
        wanted = replace(program)
        assert vars(found) == vars(wanted)


def test_a_program_of_no_instructions():
    program = Program(3, (), (1, 2), ("batch.a b",), {"loss": "result.loss"})
    assert vars(parse(program.as_text())) == vars(program)


def test_names_with_signs_of_the_text_are_quoted():
    run = Run("F0", 1, ("batch.a = b@1", "param.x, y"), ("z@1",))
    line = 'z@1 = run F0 1 ("batch.a = b@1" "param.x, y")'
    assert instruction_text(run) == line
    assert parse_instruction(line) == run


def test_two_at_once_stand_in_brackets():
    pair = Overlap(Run("F0", 1, ("x@1",), ("y@1", "z@1")), Run("B2", 0, ("x@1", "g@0"), ()))
    line = "y@1, z@1 = overlap (F0 1 (x@1) (y@1 z@1)) (B2 0 (x@1 g@0) ())"
    assert instruction_text(pair) == line
    assert parse_instruction(line) == pair
    assert pair.reads == ("x@1", "g@0")


def test_a_number_and_a_name_to_divide_by():
    assert parse_instruction("scale grad.s0_float32 12") == Scale("grad.s0_float32", 12)
    assert parse_instruction("scale grad.s0_float32 weight") == Scale("grad.s0_float32", "weight")


def test_what_is_made_may_be_several_values():
    assert parse_instruction('a, "b c", d = zero') == Zero(("a", "b c", "d"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("jump 3", "'jump' is no instruction"),
        ("", "'' is no instruction"),
        ("send zero h@0", "invalid literal for int"),
        ("send 0", "send 0"),
        ("free (a", "a bracket is not closed"),
    ],
)
def test_another_line_is_named_with_its_number_and_what_may_stand_there(line, reason):
    with pytest.raises(ProgramError) as error:
        parse(f"rank 0 stages (0) inputs () outputs ()\nfree (a)\n{line}\nfree (b)")
    text = str(error.value)
    assert text.startswith("line 3 of the program is no instruction: ")
    assert reason in text
    assert text.endswith("constant, free.")
