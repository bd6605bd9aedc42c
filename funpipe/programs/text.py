"""Programs as text, one instruction a line, and back.

A line is `made, values = word field field …`: atoms are bare, or in JSON quotes where a name has spaces or brackets;
tuples, and runs inside an overlap, are in brackets. What an instruction makes stands in front and is only read back
where it is a field.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from funpipe._errors import ProgramError
from funpipe.programs import instructions as ins
from funpipe.programs.instructions import Instruction
from funpipe.programs.program import Program

_KINDS: dict[str, Any] = {
    "slice": ins.Microbatch,
    "keys": ins.Keys,
    "run": ins.Run,
    "overlap": ins.Overlap,
    "zero": ins.Zero,
    "accumulate": ins.Accumulate,
    "send": ins.Send,
    "wait_send": ins.WaitSend,
    "post_recv": ins.PostRecv,
    "wait_recv": ins.WaitRecv,
    "flatten": ins.Flatten,
    "all_reduce": ins.AllReduce,
    "scale": ins.Scale,
    "squares": ins.Squares,
    "update": ins.Update,
    "cast": ins.Cast,
    "overflow": ins.Overflow,
    "rescale": ins.Rescale,
    "choose": ins.Choose,
    "store": ins.Store,
    "reduce": ins.Reduce,
    "constant": ins.Constant,
    "free": ins.Free,
}
_WORDS = {kind: word for word, kind in _KINDS.items()}
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[()]|[^\s()"]+')
_BARE = re.compile(r"[^\s()\"=,]+")


def program_text(program: Program) -> str:
    """A program as text: a head with what it has and gives, then its instructions."""
    head = f"rank {program.rank} stages {_write(program.stages)} inputs {_write(program.inputs)}"
    outputs = f"outputs {_write(tuple(program.outputs.items()))}"
    return "\n".join([f"{head} {outputs}", *map(instruction_text, program.instructions)])


def instruction_text(instruction: Instruction) -> str:
    """One instruction as a line."""
    given = _given(type(instruction))
    while given and given[-1].default == () and getattr(instruction, given[-1].name) == ():
        given.pop()
    written = [_write(getattr(instruction, f.name)) for f in given]
    made = ", ".join(map(_write, instruction.writes))
    return " ".join([*([made, "="] if made else []), _WORDS[type(instruction)], *written])


def parse(text: str) -> Program:
    """Reads what `Program.as_text` writes.

    Args:
        text: one program.

    Returns:
        The program; `parse(program.as_text()).instructions == program.instructions`.

    Raises:
        ProgramError: a line is no instruction; it is named with its number and what may stand there.

    Example:
        >>> program = parse("rank 0 stages (0) inputs () outputs ()\\na.0 = zero\\nfree (a.0)")
        >>> program.instructions
        (Zero(writes=('a.0',), reads=()), Free(values=('a.0',)))
    """
    head, *lines = text.strip().splitlines()
    tokens = iter(_TOKEN.findall(head))
    values = {key: _value(next(tokens), tokens) for key in tokens}
    return Program(
        int(values["rank"]),
        tuple(parse_instruction(line, number) for number, line in enumerate(lines, 2)),
        tuple(map(int, values["stages"])),
        tuple(values["inputs"]),
        dict(values["outputs"]),
    )


def parse_instruction(line: str, number: int = 1) -> Instruction:
    """Reads one line; `number` is for the error."""
    made, (word, *tokens) = _halves(_TOKEN.findall(line))
    kind = _KINDS.get(word)
    try:
        if kind is None:
            raise ValueError(f"{word!r} is no instruction")
        stream = iter(tokens)
        named = {f.name: _typed(_value(token, stream), _types(kind)[f.name]) for f, token in _pairs(kind, stream)}
        if _makes(kind):
            named["writes"] = tuple(map(_atom, made))
        return kind(**named)
    except (ValueError, TypeError, StopIteration) as error:
        raise ProgramError(
            f"line {number} of the program is no instruction: {line!r} ({error}). A line is `values = word fields`, "
            f"with one of the words {', '.join(_KINDS)}."
        ) from error


def _halves(tokens: list[str]) -> tuple[list[str], list[str]]:
    """What is made, without the commas, and the rest; a name that has an equals sign in it is in quotes."""
    split = tokens.index("=") if "=" in tokens else -1
    made = [t.removesuffix(",") for t in tokens[: max(split, 0)]]
    return [t for t in made if t], tokens[split + 1 :] or [""]


def _types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _given(kind: Any) -> list[Any]:
    """The fields that are written after the word."""
    return [f for f in fields(kind) if f.name != "writes" and not (f.name == "reads" and f.default == ())]


def _pairs(kind: Any, stream: Iterator[str]) -> Iterator[tuple[Any, str]]:
    """Each written field with the first token of its value; one that may be empty, and is, is not written."""
    for f in _given(kind):
        token = next(stream, None)
        if token is not None:
            yield f, token
        elif f.default != ():
            raise ValueError(f"it has no {f.name}")


def _makes(kind: Any) -> bool:
    """Whether what an instruction makes is a field, not derived."""
    return any(f.name == "writes" and f.default != () for f in fields(kind))


def _write(value: Any) -> str:
    if isinstance(value, ins.Run):
        return _write((value.region, value.microbatch, value.reads, value.writes))
    if isinstance(value, tuple):
        return f"({' '.join(map(_write, value))})"
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


def _value(token: str, stream: Iterator[str]) -> Any:
    """A token's value: an atom, or a tuple of what follows up to its closing bracket."""
    if token != "(":
        return _atom(token)
    found = []
    for inner in stream:
        if inner == ")":
            return tuple(found)
        found.append(_value(inner, stream))
    raise ValueError("a bracket is not closed")


def _atom(token: str) -> str:
    return json.loads(token) if token.startswith('"') else token


def _typed(value: Any, kind: Any) -> Any:
    """An atom or tuple of atoms as the type of its field; a run inside another instruction is a tuple of its fields."""
    if kind is ins.Run:
        types = _types(kind)
        return ins.Run(*(_typed(v, types[f.name]) for v, f in zip(value, fields(kind), strict=True)))
    if get_origin(kind) is tuple:
        return tuple(_typed(v, get_args(kind)[0]) for v in value)
    if isinstance(kind, UnionType):
        return int(value) if value.isdigit() else value
    if kind is bool:
        return {"True": True, "False": False}[value]
    return kind(value) if kind in (int, float) else value
