"""Which value of a rank holds each parameter: `param.NAME` is a view of a bucket, or a leaf outside the buckets."""

from funpipe.programs.program import Program, Programs


class Holders(dict[str, str]):
    """For each `param.NAME` the `bucket.NAME` or `leaf.NAME` that holds it on a rank; any other name is itself."""

    def __missing__(self, name: str) -> str:
        return f"leaf.{name.removeprefix('param.')}" if name.startswith("param.") else name


def holders(programs: Programs, program: Program) -> Holders:
    """The holders of all parameters on the rank of a program."""
    own = [b for stage in program.stages for b in programs.layout.held_by(stage)]
    return Holders({f"param.{slot.leaf}": f"bucket.{b.name}" for b in own for slot in b.slots})
