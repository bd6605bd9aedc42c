"""How a captured model is called: its arguments, and where in them each tensor of the graph is."""

import dataclasses
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from funpipe.interop.pipelining._IR.containers import whole
from funpipe.interop.pipelining.errors import PipeTypeError, PipeValueError
from funpipe.interop.pipelining.wiring import Argument

Step = tuple[Callable[[Any, Any], Any], Any]
"""`(operator.getitem, key)` or `(getattr, name)`."""


@dataclass(frozen=True)
class Leaf:
    """Where a value is in the arguments of a model.

    Args:
        position: of the argument, positional ones first, then keywords.
        steps: how to get from the argument to the value if it is a pytree: functions and their second arguments.
    """

    position: int
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Calling:
    """The arguments that a model was captured with.

    Args:
        names: of its arguments, positional ones first.
        num_positional: how many of them were positional.
        leaves: for each leaf of the arguments, in the order of the graph's placeholders, where it is.
        fixed: the leaves that are no tensors, whose values the graph has taken up.
    """

    names: tuple[str, ...]
    num_positional: int
    leaves: tuple[Leaf, ...]
    fixed: tuple[tuple[Leaf, Any], ...]

    def key(self, position: int) -> int | str:
        """What a caller gives an argument by: its position, or its keyword."""
        return position if position < self.num_positional else self.names[position]

    def argument(self, position: int) -> Argument:
        """An argument as the input of a stage."""
        return Argument(None, self.key(position), name=self.names[position], position=position)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """The arguments of a call, in the order in which they were captured.

        Args:
            args: positional arguments; those beyond the captured ones are the captured keywords, in order.
            kwargs: keyword arguments; captured positional ones may be given so, too.

        Raises:
            PipeTypeError: an argument is missing, given twice or unknown.
            PipeValueError: one that is no tensor has another value than when the model was captured.
        """
        by_name = dict(zip(self.names, args, strict=False))
        twice = sorted(set(by_name) & set(kwargs))
        unknown = sorted(set(kwargs) - set(self.names))
        missing = [name for name in self.names if name not in by_name and name not in kwargs]
        if len(args) > len(self.names) or twice or unknown or missing:
            raise PipeTypeError(
                f"the model was traced with the arguments ({', '.join(self.names)}), and called with {len(args)} by "
                f"position and {sorted(kwargs)} by name; {_difference(missing, unknown, twice)}."
            )
        bound = tuple((by_name | dict(kwargs))[name] for name in self.names)
        self._check_fixed(bound)
        return bound

    def _check_fixed(self, bound: tuple[Any, ...]) -> None:
        for leaf, traced in self.fixed:
            given = _at(bound, leaf)
            if type(given) is not type(traced) or given != traced:
                raise PipeValueError(
                    f"argument {self.names[leaf.position]!r} is {given!r} where the model was traced with {traced!r}, "
                    "and the stages have that value in their graphs; call pipeline() again with the new one."
                )


def calling_of(mod: nn.Module, program: ExportedProgram) -> Calling:
    """The arguments of a model as it was exported.

    Args:
        mod: the model.
        program: made from it.

    Raises:
        PipeTypeError: an argument holds tensors in a type of which nobody knows how to take it apart.
    """
    spec: Any = program.call_spec.in_spec
    args, kwargs = whole(spec.unflatten(list(range(spec.num_leaves))))
    names = (*_positional_names(mod, len(args), set(kwargs)), *kwargs)
    leaves = _leaves((*args, *kwargs.values()), names)
    example_args, example_kwargs = whole(program.example_inputs) or ((), {})
    examples = (*example_args, *(example_kwargs[name] for name in kwargs)) if program.example_inputs else ()
    values = [(leaf, _at(examples, leaf)) for leaf in leaves] if examples else []
    fixed = tuple((leaf, value) for leaf, value in values if not isinstance(value, torch.Tensor))
    return Calling(tuple(names), len(args), leaves, fixed)


def _positional_names(mod: nn.Module, count: int, taken: set[str]) -> list[str]:
    """The model's own names of its first arguments."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [p.name for p in inspect.signature(mod.forward).parameters.values() if p.kind in kinds]
    rest = [f"args_{index}" for index in range(len(named), count)]
    return [name if name not in taken else f"{name}_" for name in [*named, *rest][:count]]


def _leaves(arguments: tuple[Any, ...], names: tuple[str, ...]) -> tuple[Leaf, ...]:
    """Where each leaf is, by its number."""
    found: dict[int, Leaf] = {}
    for position, argument in enumerate(arguments):
        for number, steps in _numbers(argument, ()):
            if not isinstance(number, int):
                raise PipeTypeError(
                    f"argument {names[position]!r} holds a {type(number).__name__}, which cannot be taken apart; "
                    "pass tensors, or dicts, lists, tuples and dataclasses of them."
                )
            found[number] = Leaf(position, steps)
    return tuple(found[number] for number in range(len(found)))


def _numbers(value: Any, steps: tuple[Step, ...]) -> Iterator[tuple[Any, tuple[Step, ...]]]:
    """The numbers in a tree, and how to get to each."""
    if isinstance(value, Mapping):
        below: list[tuple[Step, Any]] = [((operator.getitem, key), child) for key, child in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        below = [((operator.getitem, index), child) for index, child in enumerate(value)]
    elif dataclasses.is_dataclass(value):
        below = [((getattr, field.name), getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        yield value, steps
        return
    for step, child in below:
        yield from _numbers(child, (*steps, step))


def _at(arguments: tuple[Any, ...], leaf: Leaf) -> Any:
    value = arguments[leaf.position]
    for step in leaf.steps:
        function, key = step
        value = function(value, key)
    return value


def _difference(missing: list[str], unknown: list[str], twice: list[str]) -> str:
    if missing:
        return f"pass {', '.join(missing)} too"
    if unknown:
        return f"leave out {', '.join(unknown)}, or call pipeline() again with it in mb_kwargs"
    return f"pass {', '.join(twice)} once" if twice else "pass fewer by position"
