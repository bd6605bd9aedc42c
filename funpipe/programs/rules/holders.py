"""Which value of a rank holds each parameter: `param.NAME` is a view of a bucket, or a leaf outside the buckets.

One that regions read in another dtype is a view of the bucket in that dtype, or a value by itself.
"""

from funpipe.programs.keys import is_key
from funpipe.programs.layout import Bucket, cast_name
from funpipe.programs.program import Program, Programs


class Holders(dict[str, str]):
    """For each `param.NAME` the `bucket.NAME` or `leaf.NAME` that holds it on a rank; any other name is itself.

    Keys are views of the matrix `keys`.
    """

    def __missing__(self, name: str) -> str:
        if is_key(name):
            return "keys"
        return f"leaf.{name.removeprefix('param.')}" if name.startswith("param.") else name


def holders(programs: Programs, program: Program) -> Holders:
    """The holders of all parameters on the rank of a program."""
    own = [b for stage in program.stages for b in programs.layout.held_by(stage)]
    found = Holders({f"param.{slot.leaf}": f"bucket.{b.name}" for b in own for slot in b.slots})
    casts = casts_of(programs, program)
    found |= {name.replace("param.", "master.", 1): found[name] for name in casts if name in found}
    return Holders(found | casts)


def casts_of(programs: Programs, program: Program) -> dict[str, str]:
    """The holders of those parameters alone that regions read in another dtype than they are kept in."""
    own = [b for stage in program.stages for b in programs.layout.held_by(stage)] if programs.layout.casts else []
    return {f"param.{leaf}": _cast(programs, own, leaf) for leaf in programs.layout.casts}


def _cast(programs: Programs, own: list[Bucket], leaf: str) -> str:
    """What holds a parameter that is cast: its bucket's copy, or a value of its own."""
    home = programs.layout.home(leaf)
    return cast_name(programs.layout.casts[leaf], home[0].name) if home and home[0] in own else f"param.{leaf}"
