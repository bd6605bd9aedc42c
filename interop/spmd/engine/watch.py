"""Work of a step that is still open is completed when somebody looks at what it will change.

Between two steps, deferred work has not reached the parameters. Whoever reads them through the model
(`model.parameters()`, `model.state_dict()`, a call of the model) or the optimizer (`optimizer.state_dict()`,
`optimizer.step()`) would see old values. So while work is open, the dictionaries that hold them are replaced by ones
that complete it at the first read, and then are replaced back.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

Complete = Callable[[], None]


class _Completing(dict):  # type: ignore[type-arg]
    """A dictionary that has another one take its calls, after open work was completed."""

    original: dict[Any, Any]
    complete: Complete | None

    def __reduce__(self) -> Any:
        return dict, (dict(_completed(self)),)


class _CompletingDefault(defaultdict):  # type: ignore[type-arg]
    """The same for `optimizer.state`, which has a default."""

    original: dict[Any, Any]
    complete: Complete | None

    def __reduce__(self) -> Any:
        return defaultdict, (dict, dict(_completed(self)))


def _completed(one: Any) -> Any:
    """The dictionary that is in the place of another again."""
    if one.complete is not None:
        one.complete()
        one.complete = None
    return one.original


def _forwarded(name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(_completed(self), name)(*args, **kwargs)

    return call


_READS = ("__getitem__", "__missing__", "__iter__", "__eq__", "__or__", "get", "items", "values", "copy")
_WRITES = ("__setitem__", "__delitem__", "pop", "popitem", "setdefault", "update", "clear")
for _name in (*_READS, *_WRITES):
    setattr(_Completing, _name, _forwarded(_name))
    setattr(_CompletingDefault, _name, _forwarded(_name))


def _completing(original: dict[Any, Any], complete: Complete) -> Any:
    # Filled by `dict` itself, for the own methods complete the work.
    made: Any = _CompletingDefault(dict) if isinstance(original, defaultdict) else _Completing()
    dict.update(made, original)
    made.original, made.complete = original, complete
    return made


class Watch:
    """Completes open work when a module's tensors or the optimizer's state are looked at.

    Args:
        modules: whose parameters and buffers are watched.
        optimizer: whose state is watched, if there is one.
        complete: does the work and ends the watch, or raises and leaves it.
    """

    def __init__(self, modules: Iterable[nn.Module], optimizer: Optimizer | None, complete: Complete) -> None:
        self._modules = [(m, m._parameters, m._buffers) for m in dict.fromkeys(modules)]
        self._optimizer = optimizer
        self._state = optimizer.state if optimizer is not None else None
        for module, params, buffers in self._modules:
            module.__dict__["_parameters"] = _completing(params, complete)
            module.__dict__["_buffers"] = _completing(buffers, complete)
        self._hook = None
        if optimizer is not None:
            optimizer.state = _completing(optimizer.state, complete)
            self._hook = optimizer.register_step_pre_hook(lambda *_: complete())

    def end(self) -> None:
        """Stops watching; what is held is again what was held before."""
        for module, params, buffers in self._modules:
            module.__dict__["_parameters"], module.__dict__["_buffers"] = params, buffers
        if self._optimizer is not None and isinstance(self._optimizer.state, _CompletingDefault):
            self._optimizer.state = self._state  # type: ignore[assignment]
        if self._hook is not None:
            self._hook.remove()
        self._modules, self._hook = [], None
