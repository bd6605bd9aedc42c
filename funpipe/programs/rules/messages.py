"""Each message is sent, waited for, posted and received once, on its own ranks, and in one order on each edge."""

from collections import deque
from dataclasses import dataclass, field

from funpipe.programs.instructions import PostRecv, Send, WaitRecv, WaitSend
from funpipe.programs.message import Message
from funpipe.programs.program import Program, Programs
from funpipe.programs.rules.failure import failure

Transfer = Send | WaitSend | PostRecv | WaitRecv
Kind = type[Send] | type[WaitSend] | type[PostRecv] | type[WaitRecv]
WORDS: dict[Kind, str] = {
    Send: "send", WaitSend: "wait_send", PostRecv: "post_recv", WaitRecv: "wait_recv",
}  # fmt: skip


@dataclass
class Ends:
    """Where each part of each message is: by kind and id the instruction, in the order of the programs."""

    found: dict[tuple[Kind, int], tuple[Program, int, Transfer]] = field(default_factory=dict)

    def at(self, kind: Kind, message: Message) -> int:
        """The position of a part in its program."""
        return self.found[kind, message.id][1]

    def value(self, kind: Kind, message: Message) -> str:
        """The value that a part names."""
        return getattr(self.found[kind, message.id][2], "value", "")


def messages(programs: Programs) -> None:
    """Raises unless sends and receives fit together."""
    known = {m.id: m for m in programs.messages}
    ends = Ends()
    for program in programs.programs:
        for at, instruction in enumerate(program.instructions):
            if isinstance(instruction, Transfer):
                _place(program, at, instruction, known, ends)
    for message in programs.messages:
        _complete(programs, message, ends)
        _in_order(programs, message, ends)
        _same_value(programs, message, ends)
    _edges(programs, known)


def _place(program: Program, at: int, part: Transfer, known: dict[int, Message], ends: Ends) -> None:
    word, message = WORDS[type(part)], known.get(part.message)
    if message is None:
        what = f"there is no message {part.message}."
        raise failure(program, at, what, "unknown message", "Add it to the programs' messages.")
    home = message.src if isinstance(part, Send | WaitSend) else message.dst
    if program.rank != home:
        what = f"{message} goes from rank {message.src} to rank {message.dst}."
        raise failure(program, at, what, "on the wrong rank", f"Move this {word} to rank {home}.")
    if (type(part), part.message) in ends.found:
        what = f"{message} already has a {word}, instruction {ends.at(type(part), message)}."
        raise failure(program, at, what, "a second time", "Remove one of the two.")
    ends.found[type(part), part.message] = (program, at, part)


def _complete(programs: Programs, message: Message, ends: Ends) -> None:
    for kind, word in WORDS.items():
        if (kind, message.id) not in ends.found:
            program = programs.programs[message.src if kind in (Send, WaitSend) else message.dst]
            what = f"{message} has no {word} on rank {program.rank}."
            raise failure(program, len(program.instructions), what, f"no {word} {message.id}", f"Add the {word}.")


def _in_order(programs: Programs, message: Message, ends: Ends) -> None:
    for rank, first, second in ((message.src, Send, WaitSend), (message.dst, PostRecv, WaitRecv)):
        if ends.at(second, message) < ends.at(first, message):
            what = f"{message} is waited for before its {WORDS[first]}, instruction {ends.at(first, message)}."
            note = f"before {WORDS[first]} {message.id}"
            remedy = f"Move the {WORDS[second]} behind the {WORDS[first]}."
            raise failure(programs.programs[rank], ends.at(second, message), what, note, remedy)


def _same_value(programs: Programs, message: Message, ends: Ends) -> None:
    sent = ends.value(Send, message)
    src, dst = programs.programs[message.src], programs.programs[message.dst]
    for program, kind, name in ((src, Send, sent), (dst, WaitRecv, ends.value(WaitRecv, message))):
        if programs.types[name] != message.type:
            what = f"{message} carries {message.type}, and {name!r} is {programs.types[name]}."
            raise failure(program, ends.at(kind, message), what, "wrong type", "Give both the same type.")
    kind, _, leaf = sent.partition(".")
    arrives = f"tied.{leaf}" if kind in ("param", "master") else sent
    for program, kind, name in ((src, WaitSend, sent), (dst, WaitRecv, arrives)):
        found = ends.value(kind, message)
        if found != name:
            what = f"{message} sends {sent!r}, and this line names {found!r}."
            raise failure(program, ends.at(kind, message), what, "another value", f"Name {name!r}.")


def _edges(programs: Programs, known: dict[int, Message]) -> None:
    """Transports match messages between two ranks by their order: it is the same on both sides."""
    sent: dict[tuple[int, int], deque[Message]] = {}
    for program in programs.programs:
        for message in (known[part.message] for part in program.instructions if isinstance(part, Send)):
            sent.setdefault((message.src, message.dst), deque()).append(message)
    for program in programs.programs:
        for at, part in enumerate(program.instructions):
            if isinstance(part, PostRecv):
                posted = known[part.message]
                _same(program, at, posted, sent[posted.src, posted.dst].popleft())


def _same(program: Program, at: int, posted: Message, sent: Message) -> None:
    if posted is not sent:
        what = f"{posted} is received where rank {sent.src} sends {sent} to rank {sent.dst}."
        remedy = "Put the post_recvs of an edge in the order of its sends."
        raise failure(program, at, what, f"message {sent.id} comes first", remedy)
