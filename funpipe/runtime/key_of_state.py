"""The key in a rank's state: what a step's random numbers are functions of; the same on every rank."""

from collections.abc import Mapping

import torch
from torch import Tensor

from funpipe._errors import FunpipeError, StateError, TraceError
from funpipe.functional.random.keys import key as key_of
from funpipe.optim import Optimizer
from funpipe.tracing.traced import Traced


def require_key(traced: Traced, key: Tensor | None, evaluates: bool) -> None:
    """Raises where a model draws random numbers, and there is no key.

    Args:
        traced: the loss function.
        key: of the step, or None.
        evaluates: whether the step is an evaluation, whose key is that of the training step.

    Raises:
        TraceError: the first draw is named.
    """
    keys = [leaf for (kind, _), leaf in traced.leaves.items() if kind == "random"]
    if key is not None or not keys:
        return
    what = "the evaluation" if evaluates else "the loss function"
    first = next(node for node in traced.graph.nodes if any(leaf in node.all_input_nodes for leaf in keys))
    where = " in ".join(str(w) for w in (first.meta.get("source"), first.meta.get("path")) if w) or "an unknown line"
    raise TraceError(
        f"{what} draws random numbers at {where}, and the step has no key: pass one, as in "
        "fp.train_step(..., key=0), step.init(..., key=0) or fp.value_and_grad(...)(params, batch, key=0), or switch "
        "dropout off (module.eval(), or p=0)."
    )


def require_update_key(optimizer: Optimizer | None, key: Tensor | None) -> None:
    """Raises where an update draws from the key of the step, and there is none.

    Args:
        optimizer: of the step.
        key: of the step, or None.

    Raises:
        FunpipeError: the optimizer is named.
    """
    if optimizer is not None and optimizer.needs_key and key is None:
        raise FunpipeError(
            f"{optimizer} draws random numbers, and the step has no key: pass one, as in fp.train_step(..., key=0) or "
            "step.init(..., key=0); noise may have its own, as in fp.optim.add_noise(..., key=0)."
        )


def initial_key(key: Tensor | None, device: torch.device) -> dict[str, Tensor]:
    """The key in a new state; nothing where the step has none.

    Args:
        key: 0-dim int64, or None.
        device: where the state lives.
    """
    return {} if key is None else {"key": key.detach().to(device, copy=True)}


def saved_key(template: Mapping[str, Tensor], saved: Mapping[str, object], device: torch.device) -> dict[str, Tensor]:
    """The key of a saved state, for a state that has one.

    Args:
        template: the values of the state.
        saved: what `state_dict` returned.
        device: where the state lives.

    Returns:
        A new tensor, `key`; or nothing.

    Raises:
        StateError: no key was saved.
    """
    if "key" not in template:
        return {}
    key = saved.get("key")
    if not isinstance(key, Tensor | int):
        raise StateError(
            f"the saved state has key={key!r}, and this step has a key: pass what step.state_dict of a step with a key "
            'returned, or add one, saved["key"] = fp.random.key(0).'
        )
    return initial_key(key_of(key), device)
