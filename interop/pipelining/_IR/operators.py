"""What an operator of a captured graph is, read off its schema."""

from collections.abc import Iterator
from typing import Any

from torch import fx


def schema_of(node: fx.Node) -> Any:
    """The schema of the operator that a node calls; None for everything else."""
    return getattr(node.target, "_schema", None)


def parameter_index(node: fx.Node, *names: str) -> int | None:
    """The position of the first parameter of a node's operator that has one of these names."""
    schema = schema_of(node)
    parameters = schema.arguments if schema else ()
    return next((index for index, parameter in enumerate(parameters) if parameter.name in names), None)


def argument(node: fx.Node, index: int) -> Any:
    """What a node passes for the parameter at a position: given by position, by name, or its default."""
    parameter = schema_of(node).arguments[index]
    if index < len(node.args):
        return node.args[index]
    return node.kwargs.get(parameter.name, parameter.default_value if parameter.has_default_value() else None)


def set_argument(node: fx.Node, index: int, value: Any) -> None:
    """Passes another value for the parameter at a position."""
    if index < len(node.args):
        node.update_arg(index, value)
    else:
        node.update_kwarg(schema_of(node).arguments[index].name, value)


def written(node: fx.Node) -> Iterator[fx.Node]:
    """The nodes whose tensors an operator writes into."""
    schema = schema_of(node)
    for index, parameter in enumerate(schema.arguments if schema else ()):
        value = argument(node, index)
        if parameter.alias_info is not None and parameter.alias_info.is_write and isinstance(value, fx.Node):
            yield value


def module_path(node: fx.Node) -> str:
    """The dotted name of the module whose code made a node; a module that is called again keeps its name."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return stack[-1][0].split("@")[0] if stack else ""


def module_type(node: fx.Node) -> str:
    """The name of that module's class."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][1]).split(".")[-1].rstrip("'>") if stack else ""
