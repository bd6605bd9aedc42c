"""The order of communication is read back from generated code; here the code is made up."""

import pytest

from funpipe._errors import CompileError
from funpipe.backends.order import check_order, communication, generated_communication
from funpipe.passes import optimize
from funpipe.programs import Program
from funpipe.programs.instructions import AllReduce, PostRecv, Run, Send, WaitRecv, WaitSend
from tests.programs.models import programs_of

PROGRAM = Program(
    1,
    (
        PostRecv(4),
        Send(3, "x@0"),
        Run("F1", 0, (), ()),
        WaitRecv(4, "y@0"),
        WaitSend(3, "x@0"),
        AllReduce("grad.s1_float32", "dp"),
    ),
    (1,),
    (),
    {},
)
LINES = (
    "        torch.ops.funpipe.post_recv.default(arg1_1, 17, 4)",
    "        torch.ops.funpipe.send.default(buf3, arg1_1, 17, 3)",
    "        buf9 = torch.ops.funpipe.wait_recv.default(arg1_1, 17, 4, [2], [1], torch.float32, device(type='cpu'))",
    "        torch.ops.funpipe.wait_send.default(buf3, arg1_1, 17, 3)",
    "        torch.ops.funpipe.all_reduce.default(buf12, arg1_1, 17, 'dp')",
)


def code(lines):
    """Generated code with these lines in its body, and what else is there around them."""
    return "\n".join(["def call(args):", "        cpp_fused_add_0(buf1, 17, 4)", *lines, "        return (buf7, )"])


def refused(lines, text):
    with pytest.raises(CompileError, match=text):
        check_order(PROGRAM, code(lines), 17)


def test_what_communicates_as_the_program_says_passes():
    check_order(PROGRAM, code(LINES), 17)


def test_two_operations_in_each_others_place():
    swapped = (LINES[1], LINES[0], *LINES[2:])
    refused(swapped, "rank 1: .* operation 0 should be 'post_recv 4' and is 'send 3'")


def test_a_missing_operation():
    refused((*LINES[:3], LINES[4]), "operation 3 should be 'wait_send 3' and is 'all_reduce dp'")


def test_a_missing_last_operation():
    refused(LINES[:-1], "operation 4 should be 'all_reduce dp' and is 'nothing'")


def test_an_additional_operation():
    refused((*LINES, LINES[1]), "operation 5 should be 'nothing' and is 'send 3'")


def test_another_message():
    refused((LINES[0], LINES[1].replace("17, 3", "17, 8"), *LINES[2:]), "should be 'send 3' and is 'send 8'")


def test_the_transport_of_another_step():
    refused((LINES[0].replace("17, 4", "18, 4"), *LINES[1:]), r"should be 'post_recv 4' and is 'post_recv \?'")


def test_a_shape_is_not_taken_for_the_transport_and_the_message():
    """It was, when the handle happened to be the number of a sent view's rows."""
    view = "        torch.ops.funpipe.send.default(reinterpret_tensor(buf3, (17, 6), (6, 1), 48), arg1_1, 17, 3)"
    check_order(PROGRAM, code((LINES[0], view, *LINES[2:])), 17)


def test_no_code_at_all_says_that_it_could_not_be_read():
    with pytest.raises(CompileError, match="no generated code.*use numerics='exact', or backend='regions'"):
        check_order(PROGRAM, "", 17)


def test_the_error_names_the_remedy():
    refused(LINES[1:], "The step was not run; use backend='regions' and report the model with this text.")


@pytest.mark.parametrize("text", ["", code(())])
def test_a_program_that_does_not_communicate_needs_no_code(text):
    check_order(optimize(programs_of(num_stages=1)).programs[0], text, 17)


def test_the_communication_of_a_program_in_order():
    assert communication(PROGRAM) == ["post_recv 4", "send 3", "wait_recv 4", "wait_send 3", "all_reduce dp"]
    assert generated_communication(code(LINES), 17) == communication(PROGRAM)


DIRECT = (
    "    ops.post_recv(token, 17, 4)",
    "    ops.send(v3, token, 17, 3)",
    "    v9 = ops.wait_recv(token, 17, 4, [2], [1], torch.float32, torch.device('cpu'))",
    "    ops.wait_send(v3, token, 17, 3)",
    "    ops.all_reduce(v12, token, 17, 'dp')",
)


def test_the_source_of_a_step_is_read_like_what_the_compiler_makes_of_it():
    """Where no compiler sees the communication, the source itself is what runs."""
    assert generated_communication("\n".join(DIRECT), 17) == communication(PROGRAM)


@pytest.mark.parametrize("lines", [DIRECT, LINES], ids=["source", "generated"])
def test_any_two_neighbours_in_each_others_place_are_caught(lines):
    for i in range(4):
        swapped = [*lines[:i], lines[i + 1], lines[i], *lines[i + 2 :]]
        refused(swapped, f"operation {i} should be ")
