"""The contract of a pass: what must have been applied before it, and what must not."""

import inspect
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import wraps
from time import perf_counter
from typing import Any

from torch import fx

from funpipe.interop.spmd.errors import SpmdAssertionError
from funpipe.interop.spmd.iter_graph_module import IterGraphModule
from funpipe.interop.spmd.rewriting.dump import dump_after
from funpipe.interop.spmd.rewriting.records import APPLIED, Contract, Function, key, keys

logger = logging.getLogger("graph_optimization")

_prerequisite_sets: defaultdict[str, set[str]] = defaultdict(set)
"""By the name of each pass its prerequisites. For reading: what is checked is each pass's own contract."""

_apply_before_sets: defaultdict[str, set[str]] = defaultdict(set)
"""By the name of each pass those that come after it, if they are applied. For reading, too."""


def graph_optimization_pass(prerequisites: Iterable[Function], apply_after: Iterable[Function]) -> Callable[..., Any]:
    """Makes a function that changes a graph module a pass, whose order among other passes is checked.

    After the function the graph is checked, what nothing reads goes, and the code is written anew.

    Args:
        prerequisites: passes that must have been applied to the graph module.
        apply_after: passes that, if applied to it at all, must come before this one.

    Returns:
        A decorator of a function whose first argument is an `fx.GraphModule` or an `IterGraphModule`. The pass raises
        `SpmdAssertionError` (an `AssertionError`) for another first argument, where it is applied a second time to one
        module, and where the order is wrong.

    Example:
        >>> @graph_optimization_pass(prerequisites=[], apply_after=[])
        ... def nothing(gm):
        ...     "Changes nothing."
        >>> gm = fx.symbolic_trace(lambda x: x + 1)
        >>> nothing(gm)
        >>> nothing(gm)
        Traceback (most recent call last):
        ...
        funpipe.interop.spmd.errors.SpmdAssertionError: Cannot apply funpipe.interop.spmd.rewriting.contract.nothing \
twice. It has been applied to this graph module: apply it once, or trace the step again.
    """

    def inner(function: Function) -> Function:
        contract = _contract(function, prerequisites, apply_after)

        @wraps(function)
        def apply(gm: fx.GraphModule | IterGraphModule, *args: Any, **kwargs: Any) -> None:
            check(contract, gm)
            begin = perf_counter()
            function(gm, *args, **kwargs)
            gm.graph.lint()
            gm.graph.eliminate_dead_code()
            gm.recompile()
            APPLIED.note(gm, contract)
            dump_after(function.__name__, gm)
            logger.info("Spent %f seconds applying %s", perf_counter() - begin, key(function))

        return apply

    return inner


def _contract(function: Function, prerequisites: Iterable[Function], apply_after: Iterable[Function]) -> Contract:
    before = frozenset(inspect.unwrap(f) for f in prerequisites)
    after = frozenset(inspect.unwrap(f) for f in apply_after)
    _prerequisite_sets[key(function)] = keys(before)
    for other in after:
        _apply_before_sets[key(other)].add(key(function))
    return Contract(function, before, after)


def check(contract: Contract, gm: Any) -> None:
    """Whether a pass may be applied to a graph module now.

    Args:
        contract: of the pass.
        gm: the graph module.

    Raises:
        SpmdAssertionError: it is none; the pass has been applied; what must come before has not been, or what must come
            after has.
    """
    _check_module(gm)
    applied = APPLIED.of(gm)
    name, done = key(contract.function), [other.function for other in applied]
    if contract.function in done:
        raise SpmdAssertionError(
            f"Cannot apply {name} twice. It has been applied to this graph module: apply it once, or trace the step "
            "again."
        )
    late = keys(other.function for other in applied if contract.function in other.apply_after)
    if late:
        raise SpmdAssertionError(f"{late} must be applied after {name}. Apply {name} first.")
    missing = keys(contract.prerequisites.difference(done))
    if missing:
        raise SpmdAssertionError(
            f"{missing} are the prerequisites of {name} but are not applified. Applied passes are {keys(done)}. "
            f"Apply {missing} to this graph module first."
        )


def _check_module(gm: Any) -> None:
    if not isinstance(gm, fx.GraphModule | IterGraphModule):
        raise SpmdAssertionError(
            "The first argument of the pass must be either fx.GraphModule or IterGraphModule. "
            f"It is a {type(gm).__name__}: pass what gm_transformation is given, or IterGraphModule(gm)."
        )
