"""`private_step`: a training step whose gradient is the mean of per-sample gradients, each clipped."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from funpipe._api.train_step import TrainStep, train_step
from funpipe._errors import FunpipeError
from funpipe._typing import Tree
from funpipe.functional.per_sample.clipped import factors, norm_dtype, trained
from funpipe.functional.per_sample.samples import check_independent, check_max_norm, rows_in
from funpipe.functional.per_sample.scaled import scaled
from funpipe.functional.transformed import require_plain
from funpipe.functional.tree import named_leaves
from funpipe.optim import Optimizer
from funpipe.runtime.ladder import LoweredStep
from funpipe.runtime.metrics import Metrics
from funpipe.runtime.norm_pass import NormPass
from funpipe.runtime.setup import Setup
from funpipe.runtime.state import State


class PrivateStep:
    """A training step with per-sample clipping; made by `private_step`.

    It has the methods of a `TrainStep` that need no other batch than the user's; `step` is the training step behind it.

    Example:
        >>> import torch, funpipe as fp
        >>> loss = lambda p, x: (x @ p["w"]).mean()
        >>> step = fp.private_step(loss, fp.optim.sgd(1.0), max_norm=1.0, backend="interpret")
        >>> x = torch.tensor([[3.0, 4.0], [0.0, 0.5]])
        >>> state = step.init({"w": torch.zeros(2)}, x)
        >>> state, metrics = step(state, x)
        >>> step.gather(state)[0]["w"], metrics["clipped"]
        (tensor([-0.3000, -0.6500]), tensor(0.5000))
    """

    def __init__(self, step: TrainStep, plain: Setup, max_norm: float) -> None:
        self.step = step
        self.setup = plain
        self.max_norm = max_norm
        self._engine = step._engine
        self._norms = NormPass(plain, step._engine)

    def init(self, params: Tree, batch: Tree, **keywords: Any) -> State:
        """Traces the loss function and makes the first state.

        Args:
            params, batch, **keywords: as `TrainStep.init` takes them.

        Returns:
            The state of this rank.
        """
        named = named_leaves(params, what="params")[0]
        dtype = norm_dtype(named[n].dtype for n in trained(named))
        factor = torch.ones(rows_in(batch, self.setup.batch_spec), dtype=dtype)
        return self.step.init(params, {"batch": batch, "factor": factor}, **keywords)

    def __call__(self, state: State, batch: Tree) -> tuple[State, Metrics]:
        """Runs one step: a pass for the norms, and a training step with each sample's factor.

        Args:
            state: consumed; use the one that is returned.
            batch: this replica's batch.

        Returns:
            The state after the update, and the metrics: `"loss"`, the mean over the global batch, unclipped;
            `"clipped"`, the share of samples whose gradients were longer than `max_norm`; and the auxiliary values.

        Raises:
            FunpipeTypeError: it is called inside of a transform of `torch.func`.
        """
        require_plain(batch, "its arguments", "fp.private_step")
        factor = factors(self._norms(state, batch), self.max_norm)
        return self.step(state, {"batch": batch, "factor": factor})

    @property
    def lowered(self) -> LoweredStep:
        """What `init` made of the second pass: schedule, stages, programs."""
        return self.step.lowered

    def gather(self, state: State) -> tuple[Tree, Tree]:
        """The whole trees on every rank, as `TrainStep.gather`.

        Args:
            state: not consumed.

        Returns:
            Copies of the parameters and of the buffers, of which there are none.
        """
        return self.step.gather(state)

    def ema(self, state: State) -> Tree:
        """The averages of the parameters, as `TrainStep.ema`.

        Args:
            state: not consumed.

        Returns:
            A tree of copies, on every rank.
        """
        return self.step.ema(state)

    def slots(self, state: State) -> dict[str, dict[str, Tensor]]:
        """The optimizer's slots of the whole model, as `TrainStep.slots`.

        Args:
            state: not consumed.

        Returns:
            By path, then by leaf, on every rank.
        """
        return self.step.slots(state)

    def state_dict(self, state: State) -> dict[str, Any]:
        """What this rank holds, as `TrainStep.state_dict`.

        Args:
            state: not consumed.

        Returns:
            Nested dicts that `funpipe.runtime.checkpoint.save` takes.
        """
        return self.step.state_dict(state)

    def load(self, state: State, saved: Mapping[str, Any]) -> State:
        """A state with saved values, as `TrainStep.load`.

        Args:
            state: one of this step's, given up.
            saved: what `state_dict` returned, or a checkpoint of it.

        Returns:
            The new state.
        """
        return self.step.load(state, saved)


def private_step(
    loss_fn: Callable[..., Any],
    optimizer: Optimizer,
    *,
    max_norm: float,
    batch_spec: Tree = 0,
    **arguments: Any,
) -> PrivateStep:
    """A training step whose gradient is the mean of per-sample gradients, each scaled to a norm of at most `max_norm`.

    The norm of a sample's gradient is over all trained leaves, so over all stages. There are two passes through the
    pipeline: the first finds the norms in its backward, each stage those of its own leaves, one number for each sample
    flowing on; the second is an ordinary step in which each sample counts by its factor. No rank holds more than
    the gradients of one microbatch's samples by one leaf of its own stages at a time. Microbatches, cuts and schedules
    change nothing.

    With `fp.optim.add_noise` in front of the optimizer it is DP-SGD. What is not done is the accounting: which epsilon
    a number of steps costs depends on how batches are sampled (Poisson sampling is what the usual bounds ask for) and
    is computed by an accountant, such as that of Opacus or of Google's dp-accounting.

    Args:
        loss_fn: `loss_fn(params, batch)`, called with batches of one sample. It must not mix samples, so it has no
            buffers. A `Weighted` one has the gradients of its sums clipped, and is divided by all weights:
            a sample of weight 0 (padding) counts zero.
        optimizer: of `fp.optim`.
        max_norm: above 0.
        batch_spec: the dimension of each leaf of the batch that counts samples, as a prefix tree.
        **arguments: as for `train_step`.

    Returns:
        The step: `state = step.init(params, batch)`, then `state, metrics = step(state, batch)`.

    Raises:
        FunpipeError: `max_norm` is not above 0, or the precision scales the loss, which would scale the norms.
        LossError: the loss function takes buffers.

    Example:
        >>> import torch, funpipe as fp
        >>> noise = fp.optim.add_noise(noise_multiplier=1.1, max_norm=1.0, batch_size=4)
        >>> step = fp.private_step(
        ...     lambda p, x: (x @ p["w"]).mean(),
        ...     fp.optim.chain(noise, fp.optim.sgd(0.1)),
        ...     max_norm=1.0,
        ...     key=0,
        ...     num_microbatches=2,
        ...     backend="interpret",
        ... )
        >>> state = step.init({"w": torch.zeros(2)}, torch.ones(4, 2))
        >>> state, metrics = step(state, torch.ones(4, 2))
        >>> metrics["clipped"]
        tensor(1.)

    Source: M. Abadi et al., Deep learning with differential privacy (2016), algorithm 1; J. Lee and D. Kifer, Scaling
        up differentially private deep learning with fast per-example gradient clipping (2021): two passes.
    """
    check_independent(loss_fn, "private_step")
    check_max_norm(max_norm, "private_step")
    spec = {"batch": batch_spec, "factor": 0}
    step = train_step(scaled(loss_fn, batch_spec), optimizer, batch_spec=spec, **arguments)
    if step.setup.precision is not None and step.setup.precision.scale is not None:
        raise FunpipeError(
            f"precision={step.setup.precision!r} scales the loss, and norms of scaled gradients would be clipped: use "
            "a precision without loss_scale, such as 'bf16'."
        )
    return PrivateStep(step, replace(step.setup, loss_fn=loss_fn, batch_spec=batch_spec), max_norm)
