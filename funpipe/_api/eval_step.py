"""`eval_step`: an evaluation on the state of a training step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from funpipe._api.train_step import TrainStep
from funpipe._typing import Tree
from funpipe.runtime.engine import Engine, require_state
from funpipe.runtime.evaluation import evaluation
from funpipe.runtime.ladder import LoweredStep
from funpipe.runtime.metrics import Metrics
from funpipe.runtime.state import State


class EvalStep:
    """An evaluation that uses the state of a training step; made by `eval_step`.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: (x @ p["w"]).square().mean()
        >>> step = fp.train_step(loss, fp.optim.sgd(0.1), backend="interpret")
        >>> state = step.init({"w": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> fp.eval_step(loss, like=step)(state, torch.ones(4, 3))["loss"]
        tensor(9.)
    """

    def __init__(self, eval_fn: Callable[..., Any], like: TrainStep, num_microbatches: int | None) -> None:
        count = like.setup.num_microbatches if num_microbatches is None else num_microbatches
        self.setup = replace(like.setup, loss_fn=eval_fn, optimizer=None, num_microbatches=count)
        self._train = like
        self._engine: Engine | None = None
        self._followed: LoweredStep | None = None

    def __call__(self, state: State, batch: Tree) -> Metrics:
        """Runs the forward on a batch.

        Args:
            state: of the training step; read only.
            batch: this replica's batch.

        Returns:
            The metrics.

        Raises:
            StateError: the state is of another step, was consumed, or its step did not finish.
            StageError: the evaluation reads leaves in an order that the training step's placement does not allow.
        """
        train = self._train._engine
        require_state(state).require(self._train.lowered.signature)
        if self._engine is None or self._followed is not self._train.lowered:
            self._engine, self._followed = evaluation(self.setup, train, batch), self._train.lowered
        compiled, inputs = self._engine.step_for(batch)
        return self._engine.run(state, compiled, inputs)[1]


def eval_step(eval_fn: Callable[..., Any], *, like: TrainStep, num_microbatches: int | None = None) -> EvalStep:
    """An evaluation on the state of a training step: leaves stay where they are, and the state is never changed.

    Args:
        eval_fn: as a loss function; it may take buffers and need not return them.
        like: the training step whose state is evaluated; its mesh, placement and backend are used.
        num_microbatches: by default the training step's.

    Returns:
        The evaluation: `metrics = ev(state, batch)`.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: (x @ p["w"]).square().mean()
        >>> step = fp.train_step(loss, fp.optim.sgd(0.1), backend="interpret")
        >>> state = step.init({"w": torch.ones(3, 2)}, torch.ones(4, 3))
        >>> list(fp.eval_step(loss, like=step)(state, torch.ones(2, 3)))
        ['loss']
    """
    return EvalStep(eval_fn, like, num_microbatches)
