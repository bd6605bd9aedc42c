"""funpipe's step of a case."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import funpipe as fp
from tests.benchmarks.cases import Case
from tests.benchmarks.models import Chain, cross_entropy
from tests.benchmarks.steps import Read


@dataclass(frozen=True)
class Options:
    """How funpipe runs a case.

    Args:
        ranks: processes of the pipeline; 1: one device.
        schedule: by name.
        backend: `"step"`, `"regions"` or `"interpret"`.
        numerics: `"exact"` or `"fast"`.
        device: where it runs.
    """

    ranks: int = 1
    schedule: str = "1f1b"
    backend: str = "step"
    numerics: str = "exact"
    device: str = "cpu"


class Funpipe:
    """A step and its state.

    Args:
        case: the model and the batch.
        options: how to run it.
        mesh: the processes, or None on one device.
    """

    def __init__(self, case: Case, options: Options, mesh: fp.Mesh | None = None) -> None:
        torch.set_num_threads(1)
        x, y = (t.to(options.device) for t in case.batch())
        self.batch = {"x": x, "y": y}
        model = case.model().to(options.device)
        loss_fn, params = pure(model)
        self.step = fp.train_step(
            loss_fn,
            fp.optim.adamw(1e-3),
            mesh=mesh,
            stages=_cuts(case, options),
            schedule=options.schedule,
            num_microbatches=case.microbatches,
            backend=options.backend,
            numerics=options.numerics,  # pyright: ignore[reportArgumentType]: one of the command line's choices
        )
        self.state = self.step.init(params, self.batch)
        model.to("meta")  # the state has copies, and the weights of the module are not needed any more

    def __call__(self) -> Read:
        self.state, metrics = self.step(self.state, self.batch)
        return lambda: metrics["loss"].item()


def pure(model: Chain) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
    """A model's loss as a function of its parameters and a batch `{"x", "y"}`, and the parameters."""
    apply, params, _ = fp.functionalize(model)

    def loss_fn(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        return cross_entropy(apply(params, {}, batch["x"])[0], batch["y"])

    return loss_fn, params


def _cuts(case: Case, options: Options) -> fp.stages.Cutter:
    """Evenly between the blocks, as for every peer."""
    count = fp.schedules.get(options.schedule)().num_stages(options.ranks)
    places = [case.blocks * s // count for s in range(1, count)]
    return fp.stages.split_at({f"blocks.{at}": "beginning" for at in places})
