"""Updates by the fused operators of torch: one call of one kernel for all leaves of a bucket."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from funpipe._errors import PassError
from funpipe.graphs import Graph, Node, Ref
from funpipe.graphs.dead import eliminate_dead
from funpipe.optim import Context, clip_by_global_norm
from funpipe.optim.learning_rates import as_learning_rate
from funpipe.passes.base import Pass
from funpipe.passes.communication.concatenated import lies_in_rows
from funpipe.passes.optimizer.calls import UpdateCall, updates
from funpipe.passes.optimizer.inline import Inliner
from funpipe.passes.optimizer.kernels import Kernel, kernel_of
from funpipe.passes.optimizer.list_calls import ListCall
from funpipe.passes.optimizer.replacing import Replacements

DEVICES = ("cpu", "cuda")
"""Where torch has the operators."""

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""For which it has them."""


def fuse_updates(strict: bool = False) -> Pass:
    """Has the fused operators of torch compute the updates of `fp.optim.adam`, `adamw` and `sgd`.

    Results have the bits of `torch.optim` with `fused=True`, not those of the update as it was: the kernels round
    elsewhere. The difference is below 1e-6 of a parameter per step. Clipping by the global norm in front of one is
    written out.

    Args:
        strict: raise where an update cannot be fused; otherwise it stays as it is.

    Returns:
        A pass over graphs. Values keep their names.

    Raises:
        PassError: when it is applied, and `strict`: torch has no operator for an update's optimizer, device or dtypes.

    Example:
        >>> import torch, funpipe as fp
        >>> def step(w, x):
        ...     return fp.optim.apply(fp.optim.sgd(0.5), {"w": w}, {"w": x}, {}, torch.tensor(0))[0]["w"], {}
        >>> traced = fp.trace_step(step, torch.ones(2), torch.ones(2))
        >>> [str(node.target) for node in fuse_updates()(traced).graph.nodes if "sgd" in node.name]
        ['aten._fused_sgd.default', '<built-in function getitem>']
    """
    return Pass("fuse_updates", partial(_fused, strict))


def _fused(strict: bool, graph: Graph) -> Graph:
    inliner = Inliner(graph, "fuse_updates")
    made = Replacements(inliner)
    for call in updates(graph):
        if call.kind != "update":
            continue
        kernel = _kernel(graph, call)
        if isinstance(kernel, Kernel):
            made.by_call(call.call, *_by_kernel(graph, call, kernel, inliner))
        elif strict:
            raise PassError(
                f"{call.call.node.where} of {call.settings['optimizer']} cannot be fused: {kernel}; leave strict out, "
                "and have expand_updates write it out for a compiler."
            )
    return eliminate_dead(made.graph())


def _kernel(graph: Graph, call: UpdateCall) -> Kernel | str:
    """The operator for an update, or why there is none."""
    kept = [graph.type_of(name) for row in (call.params, *call.slots.values()) for name in row]
    kinds = [*kept, *(graph.type_of(name) for name in call.grads)]
    dtypes = {kind.dtype for kind in kinds}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        return f"its parameters, gradients and slots are of {sorted(map(str, dtypes))}, and must be of one dtype"
    devices = {kind.device for kind in kinds}
    if len(devices) != 1 or not devices <= set(DEVICES):
        return f"it is on {sorted(devices)}, and the operators are for one of {DEVICES}"
    if not all(map(lies_in_rows, kept)):
        return "a parameter or slot does not lie in rows; make it contiguous"
    optimizer, label = (graph.objects[call.settings[name]] for name in ("optimizer", "label"))
    return kernel_of(optimizer.settings, label)


def _by_kernel(graph: Graph, call: UpdateCall, kernel: Kernel, inliner: Inliner) -> tuple[list[Node], ListCall]:
    """A fused operator for an update, and the nodes that it needs."""
    like, count = call.call.node, len(call.leaves)
    write = partial(inliner.write, like=like)
    before, grads = _gradients(graph, call, kernel, write)
    lists: dict[str, tuple[tuple[Any, ...], ...]] = {
        "self": call.call.lists["params"],
        "grads": (tuple(map(Ref, grads)),),
        **dict(zip(kernel.slots, ((row,) for row in call.call.lists["slots"]), strict=True)),
        **dict.fromkeys(kernel.empty, ()),
    }
    device = graph.type_of(call.params[0]).device
    if kernel.counts:
        nodes, (step,) = write(lambda tensors: [_count(tensors[0], device)], [call.steps[0]], key=("count", device))
        before, lists["state_steps"] = [*before, *nodes], ((Ref(step),) * count,)
    nodes, lr = _rate(call, kernel, device, write)
    target = kernel.packet.tensor_lr if isinstance(lr, Ref) else kernel.packet.default
    results, types = _results(call, kernel)
    made = ListCall(
        replace(like, name=kernel.packet.__name__, target=target),
        count,
        lists,
        {"lr": lr, **kernel.numbers},
        results,
        types,
    )
    return [*before, *nodes], made


def _gradients(
    graph: Graph, call: UpdateCall, kernel: Kernel, write: Callable[..., tuple[list[Node], list[str]]]
) -> tuple[list[Node], list[str]]:
    """The gradients after the transforms, in rows: the operators read memory in order, whatever the strides."""
    norm = call.settings["norm"]
    is_clipped = bool(kernel.transforms)

    def changed(tensors: list[Tensor]) -> Sequence[Tensor]:
        grads = dict(enumerate(tensors[: len(call.grads)]))
        for transform in kernel.transforms:
            grads = _clipped(transform["max_norm"], grads, tensors[-1])
        return [grad.contiguous() for grad in grads.values()]

    if not is_clipped and all(lies_in_rows(graph.type_of(grad)) for grad in call.grads):
        return [], list(call.grads)
    given = [*call.grads, *([norm.name] if is_clipped else [])]
    return write(changed, given, key=("gradients", kernel.transforms))


def _clipped(max_norm: float, grads: dict[int, Tensor], norm: Tensor) -> dict[int, Tensor]:
    named = {str(i): grad for i, grad in grads.items()}
    context = Context(step=norm, label=lambda entry: None, global_norm=lambda: norm)
    new, _ = clip_by_global_norm(max_norm).apply(named, {}, named, context)
    return {int(name): grad for name, grad in new.items()}


def _count(step: Tensor, device: str) -> Tensor:
    """The number of this update, from 1, as the operators take it."""
    return (step + 1).to(device, torch.float32)


def _rate(
    call: UpdateCall, kernel: Kernel, device: str, write: Callable[..., tuple[list[Node], list[str]]]
) -> tuple[list[Node], Any]:
    """The learning rate: a number, or the value that it is."""
    given, dtype = call.settings["lr"], torch.float32 if device == "cuda" else torch.float64
    if given is None and not callable(kernel.lr):
        return [], float(kernel.lr)
    rate = as_learning_rate("lr", kernel.lr)
    own = lambda tensors: [(tensors[0] if given else rate(tensors[0])).to(device, dtype)]  # noqa: E731
    nodes, (name,) = write(own, [given.name if given else call.steps[0]], key=("rate", given is None, kernel.lr))
    return nodes, Ref(name)


def _results(call: UpdateCall, kernel: Kernel) -> tuple[Any, Any]:
    """The rows of the operator's results: parameters, gradients, slots, and lists that stay empty."""
    unread = tuple(() for _ in call.leaves)
    (params, *slots), (kinds, *slot_kinds) = call.call.results, call.call.types
    none = [()] * len(kernel.empty)
    return (params, unread, *slots, *none), (kinds, kinds, *slot_kinds, *none)
