"""Each region runs once for each microbatch, on the rank of its stage, with inputs of its types.

Where a stage has both a whole backward (B) and a split one (I and W), each microbatch takes one of the two ways; both
would make the same values twice, which `lives` refuses.

What a run reads and makes is compared as a whole with what it should, and name by name only to find the fault.
"""

from funpipe.programs.instructions import Run, runs_of
from funpipe.programs.program import Program, Programs
from funpipe.programs.rules.failure import failure
from funpipe.programs.rules.interface import Interface
from funpipe.stages.stage import Region


def tasks(programs: Programs) -> None:
    """Raises unless every region runs exactly once for every microbatch, and reads and makes what is its own."""
    homes = _homes(programs)
    done: dict[tuple[str, int], int] = {}
    for program in programs.programs:
        interfaces = {name: Interface(program, region) for name, region in programs.regions.items()}
        for at, instruction in enumerate(program.instructions):
            for run in runs_of(instruction):
                _known(programs, program, at, run)
                _once(program, at, run, done)
                _reads(programs, program, at, run, interfaces[run.region])
                _writes(program, at, run, interfaces[run.region])
    _complete(programs, homes, done)


def _homes(programs: Programs) -> dict[int, Program]:
    """The program that holds each stage."""
    homes: dict[int, Program] = {}
    for program in programs.programs:
        for stage in program.stages:
            if stage in homes:
                what = f"stage {stage} is on rank {homes[stage].rank} too."
                raise failure(program, 0, what, f"holds stage {stage}", "Place each stage on one rank.")
            homes[stage] = program
    for stage in sorted({region.stage for region in programs.regions.values()} - homes.keys()):
        raise failure(
            programs.programs[0], 0, f"no rank holds stage {stage}.", "not here", "Place each stage on one rank."
        )
    return homes


def _known(programs: Programs, program: Program, at: int, run: Run) -> None:
    region = programs.regions.get(run.region)
    if region is None:
        known = ", ".join(programs.regions)
        what = f"{run.region!r} is no region of these programs."
        raise failure(program, at, what, "unknown region", f"Run one of {known}.")
    if region.stage not in program.stages:
        what = f"{run.region} belongs to stage {region.stage}, and this rank holds the stages {program.stages}."
        raise failure(program, at, what, "on the wrong rank", f"Run it on the rank of stage {region.stage}.")
    if not 0 <= run.microbatch < programs.num_microbatches:
        what = f"there is no microbatch {run.microbatch}."
        raise failure(program, at, what, "no such microbatch", f"Use 0 to {programs.num_microbatches - 1}.")


def _once(program: Program, at: int, run: Run, done: dict[tuple[str, int], int]) -> None:
    first = done.setdefault((run.region, run.microbatch), at)
    if first != at:
        what = f"{run.region} already ran for microbatch {run.microbatch}, by instruction {first}."
        raise failure(program, at, what, "a second time", "Remove one of the two.")


def _reads(programs: Programs, program: Program, at: int, run: Run, interface: Interface) -> None:
    expected = interface.reads(run.microbatch)
    types = [programs.types[name] for name in run.reads]
    if run.reads == expected and types == interface.types:
        interface.types = types  # most of the next microbatch's are these very objects, and equal at a glance
        return
    region = programs.regions[run.region]
    if len(run.reads) != len(region.inputs):
        what = f"{run.region} takes {len(region.inputs)} inputs and gets {len(run.reads)}."
        raise failure(program, at, what, "wrong count", f"Pass {', '.join(region.inputs)}.")
    for wanted, name, own in zip(region.inputs, run.reads, expected, strict=True):
        if programs.types[name] != region.types[wanted]:
            what = f"{run.region} takes {wanted!r} as {region.types[wanted]} and gets {name!r}, {programs.types[name]}."
            raise failure(program, at, what, "wrong type", f"Pass a value of type {region.types[wanted]}.")
        if name != own:
            what = f"{run.region} of microbatch {run.microbatch} reads {name!r} where {own!r} belongs."
            raise failure(program, at, what, "wrong value", f"Pass {own!r}.")


def _writes(program: Program, at: int, run: Run, interface: Interface) -> None:
    made = interface.writes(run.microbatch)
    if run.writes != made:
        wrong = next((m for m in run.writes if m not in made), "nothing else")
        what = f"{run.region} makes {len(made)} values, and is to write {len(run.writes)}, {wrong!r} among them."
        raise failure(program, at, what, "wrong outputs", f"Write {', '.join(made)}.")


def _complete(programs: Programs, homes: dict[int, Program], done: dict[tuple[str, int], int]) -> None:
    stages: dict[int, dict[str, Region]] = {}
    for region in programs.regions.values():
        stages.setdefault(region.stage, {})[region.kind] = region
    for stage, regions in stages.items():
        for microbatch in range(programs.num_microbatches):
            missing = [r for r in _due(regions, microbatch, done) if (r.name, microbatch) not in done]
            if missing:
                _missing(homes[stage], missing[0], microbatch)


def _due(regions: dict[str, Region], microbatch: int, done: dict[tuple[str, int], int]) -> list[Region]:
    """The regions of a stage that a microbatch has to run: all, or of both ways of a backward the one that it takes."""
    if "B" not in regions or not regions.keys() & {"I", "W"}:
        return list(regions.values())
    split = any((regions[k].name, microbatch) in done for k in ("I", "W") if k in regions)
    return [region for kind, region in regions.items() if kind == "F" or (kind != "B") == split]


def _missing(program: Program, region: Region, microbatch: int) -> None:
    cell = f"{region.stage}{region.kind}{microbatch}"
    what = f"{cell} is missing: {region.name} never runs for microbatch {microbatch}."
    raise failure(program, len(program.instructions), what, "missing", f"Add it to rank {program.rank}.")
