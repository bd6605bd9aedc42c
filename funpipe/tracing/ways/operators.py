"""An opaque module as two operators: its call, and the call again with the gradients that it gives.

    call(tensors, module, gives) -> results
    call_backward(grads, tensors, module, wanted) -> the gradients of tensors[i] for each i in wanted

`module` is a text; the graph's objects hold what it names (`funpipe.functional.objects`), and whoever runs the graph
opens `knowing(traced.objects)`. `gives` are the types of the results, as text, so that compilers need not run the
module to learn them. Both return two tensors at least, the last of them a zero that nobody reads: code that torch
generates takes a list of one tensor for the tensor itself.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from funpipe._typing import TensorType, rows
from funpipe.functional.objects import fail, known

NAMESPACE = "funpipe_opaque"
"""Below `torch.ops`; importing this module registers the operators there."""

_LIBRARY = torch.library.Library(NAMESPACE, "DEF")
_LIBRARY.define("call(Tensor[] tensors, str module, str gives) -> Tensor[]")
_LIBRARY.define("call_backward(Tensor[] grads, Tensor[] tensors, str module, int[] wanted) -> Tensor[]")

OPERATORS = getattr(torch.ops, NAMESPACE)
"""The operators."""

CALL = OPERATORS.call.default
"""The forward."""

CALL_BACKWARD = OPERATORS.call_backward.default
"""The backward."""


def types_text(types: Iterable[TensorType]) -> str:
    """Types as a text that `types_in` reads.

    Example:
        >>> types_text([TensorType.of(torch.ones(2, 3)), TensorType.of(torch.tensor(1))])
        'float32[2,3] int64[]'
    """
    return " ".join(map(str, types))


def types_in(text: str) -> list[TensorType]:
    """The types in a text, laid out in rows; devices are not in it.

    Example:
        >>> types_in("float32[2,3]")[0].stride
        (3, 1)
    """
    return [_type(word) for word in text.split()]


def _type(word: str) -> TensorType:
    dtype, _, sizes = word.removesuffix("]").partition("[")
    shape = tuple(int(size) for size in sizes.split(",") if size)
    return TensorType(shape, rows(shape), getattr(torch, dtype))


def _call(tensors: list[Tensor], module: str, gives: str) -> list[Tensor]:
    try:
        return _two(known(module).run(tensors), tensors)
    except Exception as error:
        fail(error)
        return _fake_call(tensors, module, gives)


def _call_backward(grads: list[Tensor], tensors: list[Tensor], module: str, wanted: list[int]) -> list[Tensor]:
    try:
        return _two(known(module).run_backward(grads, tensors, wanted), tensors)
    except Exception as error:
        fail(error)
        return _fake_backward(grads, tensors, module, wanted)


def _fake_call(tensors: list[Tensor], module: str, gives: str) -> list[Tensor]:
    return _two([torch.zeros(t.shape, dtype=t.dtype, device=tensors[0].device) for t in types_in(gives)], tensors)


def _fake_backward(grads: list[Tensor], tensors: list[Tensor], module: str, wanted: list[int]) -> list[Tensor]:
    found = [torch.zeros(tensors[i].shape, dtype=tensors[i].dtype, device=tensors[i].device) for i in wanted]
    return _two(found, tensors)


def _two(results: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
    """Results, two at least."""
    return results if len(results) > 1 else [*results, torch.zeros((), device=tensors[0].device)]


for _name, _real, _fake in (("call", _call, _fake_call), ("call_backward", _call_backward, _fake_backward)):
    _LIBRARY.impl(_name, _real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{_name}", _fake, lib=_LIBRARY)
