"""The communication of a program as operators of a graph."""

import torch

from funpipe.functional.communication import OPERATORS
from funpipe.graphs.node import Ref
from funpipe.programs.graph_builder import GraphBuilder
from funpipe.programs.instructions import AllReduce, PostRecv, Send, WaitRecv, WaitSend
from funpipe.programs.program import Programs


def all_reduce_node(out: GraphBuilder, instruction: AllReduce) -> None:
    """Writes a sum over ranks: its start, and its wait right behind, which passes move apart.

    Args:
        out: the graph; the value is the sum afterwards.
        instruction: the sum.
    """
    value = out.values[instruction.value]
    kind, origin = out.type_of(value), f"all_reduce {instruction.value}"
    start = (Ref(value), "sum", instruction.group)
    started = out.call(OPERATORS.all_reduce.default, start, kind, "all_reduce", origin)
    waited = out.call(OPERATORS.wait_tensor.default, (Ref(started),), kind, "wait_tensor", origin)
    out.values[instruction.value] = waited


def message_node(
    out: GraphBuilder, programs: Programs, instruction: Send | WaitSend | PostRecv | WaitRecv, value: str
) -> None:
    """Writes one end of a message, or the wait for it.

    Args:
        out: the graph; what is received is a value afterwards.
        programs: all programs.
        instruction: what is done.
        value: the name in the graph of what is sent; empty for a receive.
    """
    message, origin = instruction.message, programs.messages[instruction.message].label
    if isinstance(instruction, PostRecv):
        out.call(OPERATORS.post_recv.default, (message,), None, "post_recv", origin)
    elif isinstance(instruction, WaitRecv):
        kind = programs.messages[message].type
        args = (message, list(kind.shape), list(kind.stride), kind.dtype, torch.device(kind.device))
        out.values[instruction.value] = out.call(OPERATORS.wait_recv.default, args, kind, "wait_recv", origin)
    else:
        name = "send" if isinstance(instruction, Send) else "wait_send"
        out.call(getattr(OPERATORS, name).default, (Ref(value), message), None, name, origin)
