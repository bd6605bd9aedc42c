"""What planning gives: plans, the best one first, and why other candidates fell out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any, overload

from funpipe._errors import PlanError
from funpipe._typing import MeshShape, Tree
from funpipe.planning.candidate import Candidate, Dropped
from funpipe.planning.load import Load
from funpipe.planning.predict import Prediction
from funpipe.planning.text import plan_text, plans_text
from funpipe.stages import Cutter


@dataclass(frozen=True, eq=False)
class Plan:
    """One way to run a step, and what it will take.

    Args:
        candidate: ranks, replicas, schedule, microbatches, rematerialisation.
        cutter: how the model is cut.
        loads: what each stage takes.
        prediction: times and memory.
        limit: what keeps it from being faster: compute, bubble, communication, overhead, or memory (the same with less
            rematerialisation would not fit).
        batch_spec: the batch dimension of each leaf.
    """

    candidate: Candidate
    cutter: Cutter
    loads: tuple[Load, ...]
    prediction: Prediction
    limit: str
    batch_spec: Tree

    @property
    def seconds(self) -> float:
        """The time of a step."""
        return self.prediction.seconds

    @property
    def bubble(self) -> float:
        """The part of a step in which the busiest rank waits."""
        return self.prediction.bubble

    @property
    def memory(self) -> tuple[float, ...]:
        """For each pipeline rank the bytes that it holds at its peak."""
        return self.prediction.memory

    @property
    def mesh(self) -> MeshShape:
        """Ranks and replicas."""
        return MeshShape(self.candidate.pp, self.candidate.dp)

    @property
    def options(self) -> dict[str, Any]:
        """The keywords of `train_step` that run this plan: `fp.train_step(loss_fn, optimizer, **plan.options)`.

        `mesh` is among them, so this is for processes that torchrun or `fp.launch` started, as many as the plan has
        devices; `{**plan.options, "mesh": None}` lets one process play every rank of one replica.

        Raises:
            PlanError: the plan shards optimizer state, gradients or parameters.
        """
        if self.candidate.shard:
            raise PlanError(
                f"the plan has shard={self.candidate.shard}, and train_step does not shard yet: it is a forecast. "
                "Plan with shard=(0,) for what can run."
            )
        return {
            "mesh": self.mesh,
            "stages": self.cutter,
            "schedule": self.candidate.schedule,
            "num_microbatches": self.candidate.num_microbatches,
            "remat": self.candidate.remat,
            "batch_spec": self.batch_spec,
        }

    def as_text(self) -> str:
        """The candidate, where the time goes, and each rank's memory."""
        return plan_text(self)

    def __repr__(self) -> str:
        return f"Plan({self.candidate}, {self.seconds:.6g} s)"


@dataclass(frozen=True, eq=False)
class Plans(Sequence[Plan]):
    """Plans, the fastest first; a sequence.

    Args:
        plans: those that fit, in order.
        dropped: what cannot run, and why.
        slower: how many candidates fit or may fit, and are slower than the last plan.
    """

    plans: tuple[Plan, ...]
    dropped: tuple[Dropped, ...]
    slower: int = 0

    @overload
    def __getitem__(self, index: int) -> Plan: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Plan]: ...

    def __getitem__(self, index: int | slice) -> Plan | Sequence[Plan]:
        """A plan by its place; a PlanError where there is none at all."""
        if not self.plans:
            raise PlanError(f"{self.nothing} Use more or larger devices, more rows= or shard= to choose from.")
        return self.plans[index]

    def __len__(self) -> int:
        return len(self.plans)

    def __iter__(self) -> Iterator[Plan]:
        return iter(self.plans)

    @cached_property
    def short(self) -> tuple[Dropped, ...]:
        """The candidates that could run with more memory."""
        return tuple(d for d in self.dropped if d.nbytes is not None and d.candidate is not None)

    @cached_property
    def nothing(self) -> str:
        """Why nothing fits: what comes nearest."""
        if self.short:
            nearest = min(self.short, key=lambda d: d.nbytes or 0.0)
            least = f"the candidate that needs the least memory, {nearest.candidate}"
            return f"nothing fits, because {least}, {nearest.reason}."
        reasons = "; ".join(dict.fromkeys(f"pp={d.pp} dp={d.dp}: {d.reason}" for d in self.dropped[:5]))
        return f"nothing can run, because {reasons or 'there are no candidates'}."

    def as_text(self, width: int | None = None) -> str:
        """The ranked table, and below it why others fell out.

        Args:
            width: the characters of a line; None: as many as it takes.
        """
        return plans_text(self, width)

    def __repr__(self) -> str:
        return f"Plans({len(self.plans)} plans, {len(self.dropped)} dropped, {self.slower} slower)"

    def __str__(self) -> str:
        return self.as_text()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.as_text())}</pre>"
