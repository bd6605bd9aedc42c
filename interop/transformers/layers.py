"""The layers of a model: the lists of modules of one kind that it runs one after the other."""

from collections.abc import Iterator

from torch import nn


def layers_of(model: nn.Module, at_least: int = 2) -> tuple[str, ...]:
    """The names of a model's layers, in the model's order.

    Layers are the modules in an `nn.ModuleList` or `nn.Sequential` of two or more of one class, each with parameters:
    `model.layers`, an encoder's and a decoder's blocks, the stages of a network of images. Lists within layers, such
    as experts, count only where there are too few others: then layers that have some are replaced by them.

    Args:
        model: the model.
        at_least: how many are wanted.

    Returns:
        Dotted names; fewer than are wanted where the model has no more.

    Example:
        >>> block = lambda: nn.Sequential(nn.Linear(2, 2), nn.GELU())
        >>> layers_of(nn.ModuleDict({"embed": nn.Embedding(9, 2), "h": nn.ModuleList(block() for _ in range(3))}))
        ('h.0', 'h.1', 'h.2')
    """
    found = tuple(_outermost(model, ""))
    while len(found) < at_least:
        finer = tuple(inner for name in found for inner in (tuple(_outermost(model, name)) or (name,)))
        if finer == found:
            break
        found = finer
    return found


def _outermost(model: nn.Module, path: str) -> Iterator[str]:
    """The layers below a module that are in no other layer."""
    module = model.get_submodule(path)
    children = [(f"{path}.{name}".lstrip("."), child) for name, child in module.named_children()]
    if isinstance(module, nn.ModuleList | nn.Sequential) and _alike([child for _, child in children]):
        yield from (name for name, _ in children)
        return
    for name, _ in children:
        yield from _outermost(model, name)


def _alike(modules: list[nn.Module]) -> bool:
    """Whether there are two or more of one class, which have parameters, and run: lists of lists do not."""
    kinds = {type(module) for module in modules}
    runs = not kinds & {nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict}
    return len(modules) > 1 and len(kinds) == 1 and runs and all(any(True for _ in m.parameters()) for m in modules)
