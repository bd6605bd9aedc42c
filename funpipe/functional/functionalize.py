"""A module as a pure function over its parameters and buffers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from funpipe import _compat
from funpipe._errors import FunpipeTypeError, TreeError
from funpipe.functional.names import check_names
from funpipe.functional.overlaps import check_apart


@dataclass(frozen=True, eq=False)
class PureModule:
    """A module called as a pure function: `apply(params, buffers, *args, **kwargs) -> (out, new_buffers)`.

    Parameters and buffers of the module are never changed, and those passed in are only read: the call works on clones
    of the buffers and returns them, whether the module writes into them (`BatchNorm`) or replaces them. The module
    itself is held, not copied, so its mode (`train()`, `eval()`) is the one it has when it is called.

    Args:
        module: The module.
        aliases: For each further name of a tied parameter or buffer, the name that its leaf goes by.
    """

    module: nn.Module
    aliases: Mapping[str, str]

    def __call__(
        self, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor], /, *args: Any, **kwargs: Any
    ) -> tuple[Any, dict[str, Tensor]]:
        """Calls the module with these parameters and buffers.

        Args:
            params: The parameters by name, as `functionalize` names them.
            buffers: The buffers by name.
            *args: Passed to the module.
            **kwargs: Passed to the module.

        Returns:
            What the module returns, and the new buffers by name.

        Raises:
            TreeError: A name is missing or unknown.
        """
        check_names((name for name, _ in self.module.named_parameters()), params, "params", self.aliases)
        check_names((name for name, _ in self.module.named_buffers()), buffers, "buffers", self.aliases)
        leaves = {**params, **{name: buffer.clone() for name, buffer in buffers.items()}}
        # A leaf for each place in each module, by one name: of a module under several names, functional_call would put
        # back what it had put in under the name before.
        tensors = {n: leaves[self.aliases.get(n, n)] for n in _places(self.module)}
        with _compat.checkpoints_again(lambda function: partial(_again, self.module, function, tensors)):
            out = torch.func.functional_call(self.module, tensors, args, kwargs, tie_weights=False)
        return out, {name: tensors[name] for name in buffers}  # what replaced a buffer has been written into it


def functionalize(module: nn.Module) -> tuple[PureModule, dict[str, Tensor], dict[str, Tensor]]:
    """Turns a module into a pure function, its parameters and its buffers.

    A parameter that the module uses under several names (tied, the same object) is one leaf, under the first of them;
    the others are in `apply.aliases`. The tensors returned share the memory of the module's, and a parameter that is
    frozen in the module has `requires_grad=False` here. A train step copies what it keeps.

    Args:
        module: Any module, on any device, `meta` included.

    Returns:
        `(apply, params, buffers)`: see `PureModule`; the dicts have dotted names, such as `layers.0.weight`.

    Raises:
        FunpipeTypeError: `module` is not an `nn.Module`.
        TreeError: A parameter of a lazy module has no shape yet, or a trained one lies in the memory of another tensor.

    Example:
        >>> apply, params, buffers = functionalize(nn.Linear(3, 2))
        >>> sorted(params)
        ['bias', 'weight']
        >>> out, buffers = apply(params, buffers, torch.ones(4, 3))
        >>> out.shape
        torch.Size([4, 2])
    """
    if not isinstance(module, nn.Module):
        raise FunpipeTypeError(
            f"functionalize takes an nn.Module, not a {type(module).__name__}; pass the module itself."
        )
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor):
            raise TreeError(f"module: {name!r} is lazy and has no shape yet; call the module once before.")
    check_apart([*module.named_parameters(), *module.named_buffers()])
    params = {name: p.detach().requires_grad_(p.requires_grad) for name, p in module.named_parameters()}
    buffers = {name: b.detach() for name, b in module.named_buffers()}
    aliases = _aliases(module.named_parameters) | _aliases(module.named_buffers)
    return PureModule(module, aliases), params, buffers


class _Part(nn.Module):
    """A function that calls modules within a module, as a module."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def _again(
    module: nn.Module, function: Callable[..., Any], tensors: Mapping[str, Tensor], *args: Any, **kwargs: Any
) -> Any:
    """Calls a part of a module once more in a backward, when the module has its own parameters back."""
    held = {f"module.{n}": t for n, t in tensors.items()}
    return torch.func.functional_call(_Part(module, function), held, args, kwargs, tie_weights=False)


def _places(module: nn.Module) -> Iterator[str]:
    """The names under which each module in a module, met once, holds its parameters and buffers."""
    for path, inner in module.named_modules():
        for named in (inner.named_parameters, inner.named_buffers):
            held = named(recurse=False, remove_duplicate=False)
            yield from (f"{path}.{name}" if path else name for name, _ in held)


def _aliases(named: Callable[..., Iterable[tuple[str, Tensor]]]) -> dict[str, str]:
    """For each name that `named()` leaves out because its tensor came before, the name that it came under."""
    owner = {id(tensor): name for name, tensor in named()}
    every = named(remove_duplicate=False)
    return {name: owner[id(tensor)] for name, tensor in every if name != owner[id(tensor)]}
