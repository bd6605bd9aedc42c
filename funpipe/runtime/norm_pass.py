"""The norms of the samples' gradients of a training step, on the state that the step has.

They are the gradient of another loss function (`funpipe.functional.per_sample.norms`) by a vector that the first rank
holds. Its programs read the parameters where the training step keeps them: as views of its flat buckets.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from funpipe._typing import TensorType, Tree
from funpipe.functional.per_sample.clipped import norm_dtype
from funpipe.functional.per_sample.norms import squared_norms
from funpipe.functional.per_sample.samples import rows_in
from funpipe.functional.tree import unflatten_named
from funpipe.runtime.engine import Engine, require_state
from funpipe.runtime.exchange import gather_gradients
from funpipe.runtime.follow import Follow
from funpipe.runtime.leaves_of_state import leaves, state_names
from funpipe.runtime.setup import Setup
from funpipe.runtime.state import State
from funpipe.runtime.together import telling


@dataclass(eq=False)
class NormPass:
    """The pass of a training step that finds norms; traced and compiled at its first use.

    Args:
        setup: of the loss function whose gradients are measured, with the batch specification of plain batches.
        train: the training step's engine.
    """

    setup: Setup
    train: Engine
    engine: Engine | None = None
    followed: object = None

    def __call__(self, state: State, batch: Tree) -> Tensor:
        """The squared norm of the gradient of each of this replica's samples; every rank calls it alike.

        Args:
            state: of the training step; read only.
            batch: this replica's batch.

        Returns:
            One number for each sample, in the order of the batch, on every rank.
        """
        with telling(self.train.transport):
            require_state(state).require(self.train.first()[1].signature)
            rows = rows_in(batch, self.setup.batch_spec)
        given = {"batch": batch, "row": self._rows(rows)}
        engine = self._engine(given, rows)
        compiled, inputs = engine.step_for(given)
        values = self._values(engine, state)
        found, _ = engine.run(State(values, engine.first()[1].signature), compiled, inputs)
        squares = gather_gradients(engine, found, {"squares"})["squares"]
        # The gradient is the mean over all microbatches, each of which has written entries of its own.
        return squares[given["row"]] * (self.setup.num_microbatches * self.setup.shape.dp)

    def _rows(self, rows: int) -> Tensor:
        first = rows * (self.setup.mesh.dp_rank if self.setup.mesh else 0)
        return torch.arange(first, first + rows, device=self.train.first()[0].device)

    def _engine(self, given: Tree, rows: int) -> Engine:
        """The engine for a number of samples; another number is another vector, and traced again."""
        lowered = self.train.first()[1]
        size = rows * self.setup.shape.dp
        known = self.engine is not None and self.engine.first()[0].params["squares"].shape == (size,)
        if self.engine is None or self.followed is not lowered or not known:
            self.engine, self.followed = self._made(given, size), lowered
        return self.engine

    def _made(self, given: Tree, size: int) -> Engine:
        model, lowered = self.train.first()
        follow = self.train.follow()
        held = {_prefixed(name): stages for name, stages in follow.holders.items()}
        trained = [n for n in model.params if n in model.trained]
        loss_fn = squared_norms(self.setup.loss_fn, trained, self.setup.batch_spec)
        setup = replace(
            self.setup,
            loss_fn=loss_fn,
            optimizer=None,
            batch_spec={"batch": self.setup.batch_spec, "row": 0},
            cuda_graph=False,
        )
        cutter = Follow(held, follow.num_stages)
        given_by = {"transport": self.train.transport, "key": self.train.key}
        engine = Engine(setup, cutter=cutter, table=lowered.schedule, **given_by)
        engine.prepare(self._tree(size), given, None, model.device)
        return engine

    def _tree(self, size: int) -> Tree:
        model, _ = self.train.first()
        shapes = {n: _empty(kind) for n, kind in model.params.items()}
        dtype = norm_dtype(kind.dtype for n, kind in model.params.items() if n in model.trained)
        squares = torch.empty(size, dtype=dtype, device="meta").requires_grad_()
        return {"params": unflatten_named(model.specs[0], shapes), "squares": squares}

    def _values(self, engine: Engine, state: State) -> dict[str, Tensor]:
        """This rank's values for the pass: the vector, and the parameters as views."""
        model, lowered = engine.first()
        held = leaves(self.train.first()[1].all.layout, state.values)
        values: dict[str, Tensor] = {}
        for name in state_names(lowered.programs[self.setup.rank]):
            kind, _, rest = name.partition(".")
            if kind == "bucket":
                bucket = lowered.all.layout.bucket(rest)
                values[name] = torch.zeros(bucket.size, dtype=bucket.dtype, device=model.device)
            else:
                values[name] = (
                    held[rest.removeprefix("params").removeprefix(".")] if kind == "leaf" else state.values[name]
                )
        values["step"] = state.values["step"]
        return values


def _prefixed(name: str) -> str:
    kind, _, rest = name.partition(".")
    return f"param.params.{rest}" if kind == "param" and rest else f"{kind}.params" if kind == "param" else name


def _empty(kind: TensorType) -> Tensor:
    return torch.empty(kind.shape, dtype=kind.dtype, device="meta")
