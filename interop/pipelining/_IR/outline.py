"""The names of a model in its stages: submodules, parameters and buffers, in the model's order."""

import operator
from collections.abc import Iterable

from torch import nn

from funpipe.interop.pipelining._IR.attributes import Attributes
from funpipe.interop.pipelining._IR.submodule import Submodule


def with_parents(paths: Iterable[str]) -> set[str]:
    """Dotted names and all that contain them; the whole model is the empty name.

    Args:
        paths: dotted names.

    Example:
        >>> sorted(with_parents(["layers.0.net"]))
        ['', 'layers', 'layers.0', 'layers.0.net']
    """
    parts = [path.split(".") for path in paths]
    return {"", *(".".join(names[:depth]) for names in parts for depth in range(1, len(names) + 1))}


def outline(stage: nn.Module, mod: nn.Module, paths: set[str]) -> None:
    """Gives a stage the submodules of a model, without parameters and buffers, and their training flags.

    Args:
        stage: the stage's module.
        mod: the model.
        paths: the names of the submodules, with those that contain them.
    """
    stage.training = mod.training
    for path, module in mod.named_modules(remove_duplicate=False):
        if path and path in paths:
            parent, _, name = path.rpartition(".")
            child = Submodule(type(module).__name__)
            child.training = module.training
            stage.get_submodule(parent).add_module(name, child)


def give(stage: nn.Module, attributes: Attributes, names: Iterable[str]) -> None:
    """Gives a stage parameters, buffers and constants: the model's own tensors.

    Args:
        stage: the stage's module with its submodules.
        attributes: the model's tensors.
        names: which of them.
    """
    wanted = set(names)
    for full in (*attributes.parameters, *attributes.buffers, *attributes.constants):
        if full not in wanted:
            continue
        parent, _, name = full.rpartition(".")
        if full in attributes.parameters:
            stage.get_submodule(parent).register_parameter(name, attributes.parameters[full])  # type: ignore[arg-type]
        elif full in attributes.buffers:
            buffer, persistent = attributes.buffers[full], full in attributes.persistent
            stage.get_submodule(parent).register_buffer(name, buffer, persistent=persistent)
        else:
            setattr(operator.attrgetter(parent)(stage) if parent else stage, name, attributes.constants[full])
