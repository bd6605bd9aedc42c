"""A training step as a function of its state, which is passed and not that of the model and the optimizer."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from funpipe.interop.spmd.engine.arguments import Arguments
from funpipe.interop.spmd.engine.lent import lent
from funpipe.interop.spmd.engine.optimizers import rates
from funpipe.interop.spmd.engine.stand_ins import Whole


def stateless_func(
    func: Callable[..., Any],
    params: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    named_states: Mapping[str, dict[str, Tensor]],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> tuple[Any, list[Tensor], list[dict[str, Tensor]]]:
    """Calls a training step with other parameters, buffers and optimizer state than those of its arguments.

    Args:
        func: takes a model and at most one optimizer among its arguments.
        params: by name; changed by the optimizer.
        buffers: by name; changed by the model.
        named_states: the optimizer's, by parameter; changed by it.
        args, kwargs: of the function.

    Returns:
        What the function returns, the parameters, and the optimizer's state.

    Raises:
        SpmdAssertionError: there is no model, or more than one model or optimizer.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> weight = torch.nn.Parameter(torch.ones(1, 2))
        >>> def call(model, x):
        ...     return model(x)
        >>> out, params, states = stateless_func(call, {"weight": weight}, {}, {}, [model, torch.ones(2)], {})
        >>> out.tolist(), params[0] is weight
        ([2.0], True)
    """
    call = Arguments.of(args, kwargs)
    own = {p: name for name, p in call.model.named_parameters()}
    optimizer = call.optimizer
    mine = [p for group in (optimizer.param_groups if optimizer else []) for p in group["params"]]
    states = {params[own[p]]: named_states[own[p]] for p in mine if own[p] in named_states}
    tensors = {f"model.{name}": x for name, x in (*params.items(), *buffers.items())}
    filled, keywords = call.filled(call.tensors)
    with ExitStack() as stack:
        if optimizer is not None:
            stack.enter_context(lent(optimizer, {p: params[own[p]] for p in mine}, states, rates(optimizer)))
        returned = torch.func.functional_call(Whole(call.model, func), tensors, tuple(filled), keywords)
    return returned, list(params.values()), list(named_states.values())
