"""What a run of a region must read and make, worked out once for all microbatches."""

from funpipe.programs.instructions import Choose
from funpipe.programs.program import Program
from funpipe.stages.stage import Region


class Interface:
    """The names that a program must give to the inputs and outputs of one of its regions.

    Args:
        program: the rank's program.
        region: the region.
    """

    def __init__(self, program: Program, region: Region) -> None:
        self._inputs = [(name, _has_number(name)) for name in region.inputs]
        self._outputs = region.outputs
        chosen = {i.out: i.new for i in program.instructions if isinstance(i, Choose)}
        self._updated = {
            at: chosen.get(program.outputs[name], program.outputs[name]).rpartition("@")[0]
            for at, name in enumerate(region.inputs)
            if name.startswith("buffer.") and name in program.outputs
        }
        self.types = [region.types[name] for name in region.inputs]

    def reads(self, microbatch: int) -> tuple[str, ...]:
        """The inputs' names; a buffer that is updated comes from the microbatch before."""
        number = f"@{microbatch}"
        names = [name + number if numbered else name for name, numbered in self._inputs]
        if microbatch:
            for at, value in self._updated.items():
                names[at] = f"{value}@{microbatch - 1}"
        return tuple(names)

    def writes(self, microbatch: int) -> tuple[str, ...]:
        """The outputs' names."""
        number = f"@{microbatch}"
        return tuple([name + number for name in self._outputs])


def _has_number(name: str) -> bool:
    """Whether each microbatch has its own: what the batch, a key or a region gives; all other leaves are shared."""
    kind, dot, _ = name.partition(".")
    return not dot or kind in ("batch", "random")
