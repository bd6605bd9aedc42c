"""What `memory` runs in a process of its own: the memory of one step's tensors.

Prints a JSON object of bytes: `held` between steps, `rise` within one, `predicted` for both together or None.
"""

import json
from collections.abc import Callable

from tests.benchmarks.allocations import held, rise
from tests.benchmarks.meeting import meet
from tests.benchmarks.ours import Funpipe
from tests.benchmarks.steps import Step
from tests.benchmarks.subject import parse


def warm(build: Callable[[], Step]) -> Step:
    """The step after three runs: everything is compiled, and what is allocated once is there."""
    step = build()
    for _ in range(3):
        step()()
    return step


def predicted(step: Step) -> int | None:
    """What funpipe's verifier computes for this rank."""
    if not isinstance(step, Funpipe):
        return None
    mesh = step.step.setup.mesh
    return step.step.lowered.memory_analysis()[0 if mesh is None else mesh.pp_rank]


def main() -> None:
    """Measures what the command line says."""
    step = warm(parse().load())
    before = held()
    meet()
    print(json.dumps({"held": before, "rise": rise(lambda: step()()), "predicted": predicted(step)}))


if __name__ == "__main__":
    main()
