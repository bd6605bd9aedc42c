"""What happens to gradients, parameters, the weight and the norm happens in one order, each once.

    grad.BUCKET     flatten, all_reduce dp, scale, squares, overflow, update
    bucket.BUCKET   cast*, run*, update, send*                       (`*`: any number of times)
    leaf.COPY       cast*, run*, store
    weight          reduce or constant, all_reduce world, divide*
    squares         squares, all_reduce pp, update*
    overflow        overflow, all_reduce world, rescale, update*, choose*
    an averaged buffer   run*, all_reduce dp, scale

Steps that a mesh or an optimizer does not need are left out: one replica reduces nothing.
"""

from collections.abc import Iterator

from funpipe.programs.instructions import (
    AllReduce,
    Cast,
    Choose,
    Constant,
    Flatten,
    Instruction,
    Overflow,
    Reduce,
    Rescale,
    Run,
    Scale,
    Send,
    Squares,
    Store,
    Update,
    runs_of,
)
from funpipe.programs.program import Program, Programs
from funpipe.programs.rules.failure import failure
from funpipe.programs.rules.holders import Holders, holders

History = list[tuple[int, str]]
"""What happens to a value: instructions and words."""


def histories(programs: Programs) -> None:
    """Raises unless each value has the history that its kind asks for."""
    updates = [i for p in programs.programs for i in p.instructions if isinstance(i, Update)]
    for program in programs.programs:
        found = _found(programs, program)
        wanted = _averaged(programs, found) | _wanted(programs, program, updates)
        for name, steps in wanted.items():
            _compare(program, name, steps, found.get(name, []))


def _found(programs: Programs, program: Program) -> dict[str, History]:
    holder = holders(programs, program)
    others = (i for i in program.instructions if not runs_of(i))
    told = {name for i in others for name, _ in _events(i, holder)}
    told |= {name for r in programs.regions.values() for name in r.inputs if name.startswith("param.")}
    found: dict[str, History] = {}
    for at, i in enumerate(program.instructions):
        runs = runs_of(i)
        events = [event for run in runs for event in _of_run(run, holder, told)] if runs else _events(i, holder)
        for name, word in dict.fromkeys(events):
            found.setdefault(name, []).append((at, word))
    return found


def _of_run(run: Run, holder: Holders, told: set[str]) -> Iterator[tuple[str, str]]:
    """Of the hundreds of values of a run those that have a history: parameters, and what other instructions touch."""
    touched = dict.fromkeys([holder[name] for name in (*run.reads, *run.writes) if name in told])
    return ((name, "run") for name in touched)


def _events(i: Instruction, holder: Holders) -> Iterator[tuple[str, str]]:
    """The values that an instruction other than a run touches, and the word for what it does to each."""
    match i:
        case Flatten():
            yield f"grad.{i.bucket}", "flatten"
        case AllReduce():
            yield i.value, f"all_reduce {i.group}"
        case Scale():
            yield i.value, f"scale {i.by}"
            yield str(i.by), "divide"
        case Squares():
            yield from ((name, "squares") for name in (*(f"grad.{b}" for b in i.buckets), "squares"))
        case Update():
            yield from ((name, "update") for name in i.reads)
        case Store():
            yield f"leaf.{i.leaf}", "store"
        case Send() if i.value.startswith(("param.", "master.")):
            yield holder[i.value], "send"
        case Reduce():
            yield i.out, "reduce"
        case Cast():
            yield holder[i.value], "cast"
        case Overflow():
            yield from ((name, "overflow") for name in (*i.reads, "overflow"))
        case Rescale():
            yield from ((name, "rescale") for name in i.reads)
        case Choose():
            yield from ((name, "choose") for name in i.unless)
        case Constant():
            yield i.out, "constant"


def _averaged(programs: Programs, found: dict[str, History]) -> dict[str, list[str]]:
    """What else is reduced or scaled can only be a buffer that is averaged."""
    steps = ["run*", "all_reduce dp", f"scale {programs.mesh.dp}"]
    return {n: steps for n, h in found.items() if any(word.startswith(("all_reduce", "scale")) for _, word in h)}


def _wanted(programs: Programs, program: Program, updates: list[Update]) -> dict[str, list[str]]:
    """The history that each value must have; a step with a star any number of times."""
    if all(region.kind == "F" for region in programs.regions.values()):
        return {}
    mesh, norm = programs.mesh, any(update.needs_norm for update in updates)
    wanted: dict[str, list[str]] = {}
    casts = ["cast*"] * bool(programs.layout.casts)
    for bucket in (b for b in programs.layout.buckets if b.stage in program.stages):
        wanted[f"grad.{bucket.name}"] = _gradient(programs, norm, f"grad.{bucket.name}" in program.outputs)
        wanted[f"bucket.{bucket.name}"] = [*casts, "run*", *["update", "send*"] * bool(updates)]
    if updates:
        wanted |= {name: [*casts, "run*", "store"] for name in _copies(programs, program)}
    if _is_weighted(programs):
        wanted["weight"] = ["reduce|constant", *["all_reduce world"] * (mesh.pp * mesh.dp > 1), "divide*"]
    if _is_scaled(programs) and updates:
        agreed = ["all_reduce world"] * (mesh.pp * mesh.dp > 1)
        wanted["overflow"] = ["overflow", *agreed, "rescale", "update*", "choose*"]
    if norm:
        wanted["squares"] = ["squares", *["all_reduce pp"] * (mesh.pp > 1), "update*"]
    return wanted


def _gradient(programs: Programs, norm: bool, is_result: bool) -> list[str]:
    divisor = "weight" if _is_weighted(programs) else programs.divisor
    reduced = ["all_reduce dp"] * (programs.mesh.dp > 1)
    scaled = [f"scale {divisor}"] * (divisor is not None)
    scaled += ["scale scale.value"] * _is_scaled(programs)
    checked = ["overflow"] * (_is_scaled(programs) and not is_result)
    return ["flatten", *reduced, *scaled, *["squares"] * norm, *checked, *["update"] * (not is_result)]


def _copies(programs: Programs, program: Program) -> list[str]:
    """The copies of trained leaves that a rank holds outside its buckets."""
    trained = {f"leaf.{slot.leaf}" for b in programs.layout.buckets for slot in b.slots}
    return [name for name in program.inputs if name in trained]


def _is_scaled(programs: Programs) -> bool:
    return "scale.value" in programs.types


def _is_weighted(programs: Programs) -> bool:
    return "weight" in programs.reducers


def _compare(program: Program, name: str, steps: list[str], found: History) -> None:
    shown = ", ".join(steps)
    left = list(steps)
    for at, word in found:
        while left and left[0].endswith("*") and word != left[0].removesuffix("*"):
            left.pop(0)
        if not left or word not in left[0].removesuffix("*").split("|"):
            what = f"`{word}` comes out of turn for {name!r}."
            raise failure(program, at, what, f"{word} of {name}", f"Its history is: {shown}.")
        if not left[0].endswith("*"):
            left.pop(0)
    missing = [step for step in left if not step.endswith("*")]
    if missing:
        what = f"{name!r} lacks its `{missing[0]}`."
        raise failure(program, len(program.instructions), what, "missing", f"Its history is: {shown}.")
