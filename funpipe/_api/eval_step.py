"""`eval_step`: an evaluation on the state of a training step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from funpipe._api.private_step import PrivateStep
from funpipe._api.train_step import TrainStep
from funpipe._errors import FunpipeTypeError
from funpipe._typing import Tree
from funpipe.runtime.averages import with_averages
from funpipe.runtime.engine import Engine, require_state
from funpipe.runtime.evaluation import evaluation
from funpipe.runtime.ladder import LoweredStep
from funpipe.runtime.metrics import Metrics
from funpipe.runtime.state import State
from funpipe.tracing.ways import Way

Params = Literal["params", "ema"]
"""With which parameters an evaluation runs: those of the state, or their averages."""


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

    def __init__(
        self,
        eval_fn: Callable[..., Any],
        like: TrainStep | PrivateStep,
        num_microbatches: int | None,
        trace: Way | None = None,
        params: Params = "params",
    ) -> None:
        if params not in ("params", "ema"):
            raise FunpipeTypeError(f"params is {params!r}; use 'params', or 'ema' for the averages of the parameters.")
        self._params = params
        count = like.setup.num_microbatches if num_microbatches is None else num_microbatches
        self.setup = replace(like.setup, loss_fn=eval_fn, optimizer=None, num_microbatches=count)
        self.setup = self.setup if trace is None else replace(self.setup, trace=trace)
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
            StateError: the state is of another step, was consumed, or its step did not finish; or it has no averages.
            StageError: the evaluation reads leaves in an order that the training step's placement does not allow.
        """
        train = self._train._engine
        require_state(state).require(self._train.lowered.signature)
        if self._engine is None or self._followed is not self._train.lowered:
            self._engine, self._followed = evaluation(self.setup, train, batch), self._train.lowered
        state = with_averages(train, state) if self._params == "ema" else state
        compiled, inputs = self._engine.step_for(batch, values=state.values)
        return self._engine.run(state, compiled, inputs)[1]


def eval_step(
    eval_fn: Callable[..., Any],
    *,
    like: TrainStep | PrivateStep,
    num_microbatches: int | None = None,
    trace: Way | None = None,
    params: Params = "params",
) -> EvalStep:
    """An evaluation on the state of a training step: leaves stay where they are, and the state is never changed.

    Args:
        eval_fn: as a loss function; it may take buffers and need not return them.
        like: the training step whose state is evaluated; its mesh, placement and backend are used.
        num_microbatches: by default the training step's.
        trace: what may be done with a module that cannot be traced; by default as in the training step.
        params: `"ema"`: the averages of the parameters, which `fp.optim.ema` keeps, in their place.

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
    return EvalStep(eval_fn, like, num_microbatches, trace, params)
