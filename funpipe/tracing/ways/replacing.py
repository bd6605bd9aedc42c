"""Other forwards for some modules, for a while."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

Forward = Callable[..., Any]


@contextmanager
def replacing(forwards: Mapping[nn.Module, Forward]) -> Iterator[None]:
    """While open, calls of these modules run other functions; hooks run around them as before.

    Args:
        forwards: for each module what is called in place of its `forward`.
    """
    # In the instance's own dict: a module may not allow its forward to be set (a scripted one).
    before = {module: vars(module).get("forward") for module in forwards}
    for module, forward in forwards.items():
        vars(module)["forward"] = forward
    try:
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                del vars(module)["forward"]
            else:
                vars(module)["forward"] = forward


class Body(nn.Module):
    """A module's forward without its hooks, as a module whose parameters are below `module.`.

    Args:
        module: the module.
        body: its forward.
    """

    def __init__(self, module: nn.Module, body: Forward) -> None:
        super().__init__()
        self.module = module
        self.body = body

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls it."""
        return self.body(*args, **kwargs)


PREFIX = "module."
"""Of the names in a `Body`."""
