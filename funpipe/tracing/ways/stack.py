"""Which modules were running when an error was raised, and which belong together."""

import traceback
from collections.abc import Iterator

from torch import nn


def modules_of(error: BaseException) -> list[nn.Module]:
    """The modules that were running when an error was raised, the outermost first, with what it contains.

    Args:
        error: with its traceback.
    """
    running = list(dict.fromkeys(_running(error)))
    inside = set(running[0].modules()) if running else set()
    return [module for module in running if module in inside]


def _running(error: BaseException) -> Iterator[nn.Module]:
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module):
            yield module


def path_in(root: nn.Module, module: nn.Module) -> str:
    """The dotted path of a module in another one; `""` for that one itself.

    Example:
        >>> model = nn.Sequential(nn.ReLU())
        >>> path_in(model, model[0])
        '0'
    """
    return next(name for name, found in root.named_modules() if found is module)


def name_of(root: nn.Module, module: nn.Module) -> str:
    """A module as errors call it: its path and its class.

    Example:
        >>> model = nn.Sequential(nn.ReLU())
        >>> name_of(model, model[0]), name_of(model, model)
        ('0 (ReLU)', 'Sequential')
    """
    path, kind = path_in(root, module), type(module).__name__
    return f"{path} ({kind})" if path else kind


def running_text(error: BaseException) -> str:
    """The innermost module that was running when an error was raised, where no line of the user's is known."""
    running = modules_of(error)
    return f"the module {name_of(running[0], running[-1])}" if running else "an unknown line"


def around(root: nn.Module, module: nn.Module) -> list[nn.Module]:
    """A module and those that contain it, the outermost first.

    Example:
        >>> model = nn.Sequential(nn.Sequential(nn.ReLU()))
        >>> around(model, model[0]) == [model, model[0]]
        True
    """
    parts = path_in(root, module).split(".")
    paths = [".".join(parts[:count]) for count in range(len(parts) + 1)]
    return list(dict.fromkeys(root.get_submodule(path) for path in paths))


def alike(root: nn.Module, module: nn.Module) -> list[nn.Module]:
    """A module and the others of its class, where that is the user's; none of them contains another.

    Example:
        >>> model = nn.Sequential(nn.ReLU(), nn.ReLU())
        >>> alike(model, model[0]) == [model[0]]
        True
    """
    kind = type(module)
    if kind.__module__.split(".")[0] == "torch":  # a Sequential says nothing of another one
        return [module]
    related = set(around(root, module)) | set(module.modules())
    group = [m for m in root.modules() if type(m) is kind and m not in related]
    inside = {part for m in group for part in m.modules() if part is not m}
    return [module, *(m for m in group if m not in inside)]
