"""The function that is traced for a step: the user's, on flat lists of leaves."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from optree import PyTreeSpec
from torch import Tensor

from funpipe._errors import TraceError
from funpipe._typing import MeshShape
from funpipe.functional.axes import NAMES, on_mesh
from funpipe.functional.tree import named_leaves, unflatten_named
from funpipe.tracing.fake import in_rows
from funpipe.tracing.new_state import check_new_state
from funpipe.tracing.where import noting_where

StepFunction = Callable[[Any, Any], tuple[Any, Any]]
"""`step(state, batch) -> (new state, other results)`."""


@dataclass
class CalledStep:
    """Calls the step on lists of leaves, and remembers the names and the tree of what it returned.

    Args:
        step: the user's function.
        state, batch: the leaves that it will be given, by name, and their structures.
        mesh: that it runs on.
        what: it is called in errors.
        outputs: the names of what was returned, once called.
        aux_spec: the structure of the other results, once called.
    """

    step: StepFunction
    state: dict[str, Tensor]
    state_spec: PyTreeSpec
    batch: dict[str, Tensor]
    batch_spec: PyTreeSpec
    mesh: MeshShape
    what: str = "the step"
    outputs: list[str] = field(default_factory=list)
    aux_spec: Any = None

    def __call__(self, *given: list[Tensor]) -> list[Tensor]:
        state, batch, places = given
        trees = (
            unflatten_named(self.state_spec, _like(state, self.state)),
            unflatten_named(self.batch_spec, _like(batch, self.batch)),
        )
        here = on_mesh(self.mesh, dict(zip(NAMES, places, strict=True)))
        # A backward on a GPU would run in a thread of its own, where the context is not known.
        with torch.enable_grad(), torch.autograd.set_multithreading_enabled(False), here, noting_where():
            return self._flat(self.step(*trees))

    def _flat(self, returned: Any) -> list[Tensor]:
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TraceError(f"the step returned {_kind(returned)}: return a pair, (new_state, aux).")
        new = check_new_state(returned[0], self.state_spec, self.state)
        aux, self.aux_spec = named_leaves({} if returned[1] is None else returned[1], "aux")
        self.outputs = [*(f"state.{n}" for n in new), *(f"aux.{n}" for n in aux)]
        return [*(in_rows(leaf.detach()) for leaf in new.values()), *(leaf.detach() for leaf in aux.values())]


def _kind(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, tuple) else f"a value of type {type(value).__name__}"


def _like(leaves: list[Tensor], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leaves by name, which require a gradient where those that were given do."""
    pairs = zip(given.items(), leaves, strict=True)
    return {name: leaf.detach().requires_grad_(own.requires_grad) for (name, own), leaf in pairs}
