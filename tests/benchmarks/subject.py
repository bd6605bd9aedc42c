"""One step by name, for measurements that give each a process of its own."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial

import torch

import funpipe as fp
from tests.benchmarks import peers_pipelining, peers_single
from tests.benchmarks.cases import Case, case_of
from tests.benchmarks.ours import Funpipe, Options
from tests.benchmarks.peers import ENVIRONMENT
from tests.benchmarks.steps import Step


@dataclass(frozen=True)
class Subject:
    """What a process measures.

    Args:
        name: one of `NAMES`; eager and compiled models go microbatch by microbatch.
        case: by name.
        blocks: instead of the case's, if not 0.
        microbatches: instead of the case's, if not 0.
        ranks, schedule, backend, numerics: how funpipe runs it.
    """

    name: str
    case: str = "small"
    blocks: int = 0
    microbatches: int = 0
    ranks: int = 1
    schedule: str = "1f1b"
    backend: str = "step"
    numerics: str = "exact"

    @property
    def options(self) -> Options:
        """How funpipe runs it."""
        return Options(self.ranks, self.schedule, self.backend, self.numerics)

    @property
    def numbered(self) -> Case:
        """The case with its numbers."""
        return case_of(self.case, self.blocks or None, self.microbatches or None)

    def words(self) -> list[str]:
        """The command line that `parse` reads."""
        return [f"--{name}={value}" for name, value in asdict(self).items()]

    def load(self) -> Callable[[], Step]:
        """Imports what the step needs and connects the ranks; what it returns makes the step."""
        torch.set_num_threads(1)
        case = self.numbered
        mesh = fp.mesh(pp=self.ranks, device="cpu") if self.ranks > 1 else None
        model = case.model()
        match self.name:
            case "funpipe":
                return partial(Funpipe, case, self.options, mesh)
            case "pipelining" | "pipelining-compiled":
                return partial(peers_pipelining.loop, case, model, self.name.endswith("compiled"))
            case "eager" | "compiled":
                mode = "default" if self.name == "compiled" else None
                return partial(peers_single.loop, case, model, "cpu", case.microbatches, mode)
        os.environ.update(ENVIRONMENT)
        from tests.benchmarks import peers_jax  # an extra, and it reads the environment when it is imported

        return partial(peers_jax.loop, case, model, "cpu", self.name == "jax-scanned", pinned=False)


NAMES = ("funpipe", "pipelining", "pipelining-compiled", "eager", "compiled", "jax-whole", "jax-scanned")


def parse(words: Sequence[str] | None = None) -> Subject:
    """A subject from its command line."""
    parser = argparse.ArgumentParser()
    for field in fields(Subject):
        choices = NAMES if field.name == "name" else None
        parser.add_argument(f"--{field.name}", type=field.type, required=field.name == "name", choices=choices)  # pyright: ignore[reportArgumentType]
    given = {name: value for name, value in vars(parser.parse_args(words)).items() if value is not None}
    return Subject(**given)
