"""The order of communication in generated code, read back and compared with the program."""

import re

from funpipe._errors import CompileError
from funpipe.backends.ops import NAMES
from funpipe.programs.instructions import AllReduce, PostRecv, Send, WaitRecv, WaitSend
from funpipe.programs.program import Program

_CALL = re.compile(rf"\bops\.(?:funpipe\.)?({'|'.join(NAMES)})(?:\.default)?\(([^\n]*)")
_OPS = {Send: "send", WaitSend: "wait_send", PostRecv: "post_recv", WaitRecv: "wait_recv", AllReduce: "all_reduce"}


def communication(program: Program) -> list[str]:
    """The communication of a program, in order: an operator with its message, or with its group."""
    return [
        f"{_OPS[type(i)]} {i.group if isinstance(i, AllReduce) else i.message}"
        for i in program.instructions
        if isinstance(i, Send | WaitSend | PostRecv | WaitRecv | AllReduce)
    ]


def generated_communication(code: str, transport: int) -> list[str]:
    """The communication of generated code, in order.

    Args:
        code: the source of the module that the compiler wrote.
        transport: the handle that every call carries.
    """
    found = []
    behind_token = re.compile(rf"[A-Za-z_]\w*, {transport}, (\d+|'\w+')(?=\)|, \[)")
    for name, arguments in _CALL.findall(code):
        tail = behind_token.search(arguments)
        found.append(f"{name} {tail.group(1).strip(chr(39)) if tail else '?'}")
    return found


def check_order(program: Program, code: str, transport: int) -> None:
    """Raises unless generated code communicates exactly as its program says.

    Args:
        program: what was compiled.
        code: what the compiler wrote.
        transport: the handle.

    Raises:
        CompileError: an operation is missing, or in another place; the first difference is named. Or there is no code.
    """
    wanted, found = communication(program), generated_communication(code, transport)
    if wanted == found:
        return
    if not code:
        raise CompileError(
            f"rank {program.rank}: torch gave no generated code, so the order of communication cannot be read back. "
            "The step was not run; use numerics='exact', or backend='regions'."
        )
    longest = max(len(wanted), len(found))
    pairs = zip(wanted + ["nothing"] * longest, found + ["nothing"] * longest, strict=False)
    at, (want, have) = next((i, p) for i, p in enumerate(pairs) if p[0] != p[1])
    raise CompileError(
        f"rank {program.rank}: the compiler moved communication: operation {at} should be {want!r} and is {have!r}. "
        "The step was not run; use backend='regions' and report the model with this text."
    )
