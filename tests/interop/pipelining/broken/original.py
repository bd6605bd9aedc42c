"""What torch.distributed.pipelining does in every case, as it was measured, and how to measure it again.

python -m tests.interop.pipelining.broken.original
"""

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch
import torch.distributed as dist

import funpipe as fp
from funpipe._errors import TransportError
from tests.interop.pipelining.broken import front_end, schedules, several_ranks, stages
from tests.interop.pipelining.broken.cases import ORIGINAL, Case, Interface, cases_in

FILE = Path(__file__).with_name("original.json")
ONE_PROCESS = (front_end, schedules, stages)


def known() -> dict[str, list[str]]:
    """What the original did, by `group.case`: one outcome, or those of the ranks."""
    return json.loads(FILE.read_text())["outcomes"]


def version() -> str:
    """The torch that it was measured with."""
    return json.loads(FILE.read_text())["torch"]


def name_of(group: ModuleType, case: Case) -> str:
    """Such as `stages.the_target_is_a_tuple`."""
    return f"{group.__name__.rpartition('.')[-1]}.{case.name}"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A process group of this process, which stages there need."""
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            yield
        finally:
            dist.destroy_process_group()


def in_one_process() -> dict[str, list[str]]:
    """The cases that need no other process."""
    with alone():
        found = [(name_of(g, c), c) for g in ONE_PROCESS for c in cases_in(g).values()]
        return {name: [case.outcome(Interface(ORIGINAL))] for name, case in found}


def on_several_ranks() -> dict[str, list[str]]:
    """The others, each in a launch of its own: some leave the process group unusable."""
    return {name_of(several_ranks, case): launched(case) for case in cases_in(several_ranks).values()}


def launched(case: Case) -> list[str]:
    """The outcomes of a case's ranks; one if a process did not survive it."""
    try:
        found = fp.launch(several_ranks.run, several_ranks.RANKS, ORIGINAL, {}, [case.name], timeout=90)
    except TransportError as error:
        return [f"ends the process: {killed[0]}" if (killed := re.findall(r"SIG\w+", str(error))) else "does not end"]
    return [outcome[case.name] for outcome in found]


def kind(outcome: str) -> str:
    """What is compared when it is measured again: what is returned, or the type of what is raised."""
    return outcome if outcome.startswith("returns") else outcome.partition(":")[0]


def version_of_torch() -> str:
    """Without what was built into it."""
    return torch.__version__.partition("+")[0]


if __name__ == "__main__":
    from tests.interop.pipelining.broken import original  # by a name that another process can import

    outcomes = fp.launch(original.in_one_process, 1)[0] | on_several_ranks()
    FILE.write_text(json.dumps({"torch": version_of_torch(), "outcomes": outcomes}, indent=1) + "\n")
