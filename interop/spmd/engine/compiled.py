"""`Compiled`: a traced and rewritten step, and the objects of the user that it reads and changes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from funpipe.functional.communication import communicating
from funpipe.interop.pipelining.trees import unflatten
from funpipe.interop.spmd.engine.arguments import Arguments, Hole
from funpipe.interop.spmd.engine.communication import communicator_on
from funpipe.interop.spmd.engine.leaves import GRADS, OPTIMIZER, PARAMS, Leaf, like, local_of, write_all
from funpipe.interop.spmd.engine.step import LEFT
from funpipe.interop.spmd.iter_graph_module import IterGraphModule

Module = Callable[..., Sequence[Any]]


@dataclass(frozen=True, eq=False)
class Compiled:
    """A step that can be called.

    Args:
        gm: the transformed step: flat tensors in, flat tensors out.
        runs: what runs in its place; may write to the state that it is given.
        model, optimizer: whose state it changes.
        inputs, outputs: the names of its inputs and outputs.
        updated: the leaves of the state that the step gives new values.
        extra: inputs that are not read from a call: constants of the step, and what overrides added, by name.
        returns: the structure of what the user's function returns, and its leaves, a `Hole` where an output belongs.
    """

    gm: Module
    runs: Module
    model: nn.Module
    optimizer: Optimizer | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    updated: frozenset[str]
    extra: Mapping[str, Tensor]
    returns: tuple[Any, tuple[Any, ...]]

    @property
    def mod(self) -> nn.Module:
        """The model, under the name that it had."""
        return self.model

    @property
    def opt(self) -> Optimizer | None:
        """The optimizer, under the name that it had."""
        return self.optimizer

    @property
    def pending(self) -> bool:
        """Whether work of its last step is open."""
        return isinstance(self.gm, IterGraphModule) and self.gm.pending

    @property
    def stale(self) -> frozenset[str]:
        """The leaves of the state that open work will change."""
        return frozenset(self.outputs[i] for i in self.gm.stale) if self.pending else frozenset()  # type: ignore[attr-defined]

    def run(self, call: Arguments, leaves: Sequence[Leaf], rates: Sequence[Tensor]) -> Any:
        """Runs one step, writes the new state back, and gives what the function returns.

        Args:
            call: its arguments.
            leaves: the state.
            rates: the learning rates.
        """
        given = {leaf.name: leaf.local for leaf in leaves}
        given |= {f"batch.lr.{i}": rate for i, rate in enumerate(rates)}
        given |= {f"batch.{i}": local_of(x) for i, x in enumerate(call.tensors)}
        found = self._called(self.runs, [self._input(name, given) for name in self.inputs])
        self._write(found, leaves)
        self._write_gradients(found, leaves)
        structure, kept = self.returns
        made = (x for name, x in found.items() if name.startswith("aux.return."))
        return unflatten(structure, [next(made) if isinstance(leaf, Hole) else leaf for leaf in kept])

    def flush(self, leaves: Sequence[Leaf]) -> None:
        """Does the work that is open.

        Args:
            leaves: the state.
        """
        given = {leaf.name: leaf.local for leaf in leaves}
        stale = self.stale
        flat = [given.get(name, self.extra.get(name)) for name in self.inputs]
        found = self._called(self.gm.flush, flat)  # type: ignore[attr-defined]
        self._write({name: x for name, x in found.items() if name in stale}, leaves)

    def _input(self, name: str, given: Mapping[str, Tensor]) -> Tensor:
        return self.extra[name] if name in self.extra else given[name]

    def _called(self, module: Module, flat: Sequence[Tensor | None]) -> dict[str, Any]:
        device = next((p.device for p in flat if p is not None and p.device.type != "cpu"), torch.device("cpu"))
        with (
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
            communicating(communicator_on(device)),
        ):
            return dict(zip(self.outputs, module(*flat), strict=True))

    def _write(self, found: Mapping[str, Any], leaves: Sequence[Leaf]) -> None:
        """Writes the state; what open work will change gets the newest value there is."""
        new = [leaf for leaf in leaves if leaf.name in self.updated and not leaf.name.startswith(GRADS)]
        new = [leaf for leaf in new if leaf.name in found]
        write_all([(leaf, found[leaf.name]) for leaf in new])
        params = {leaf.name: leaf.tensor for leaf in leaves}
        for leaf in new:
            if leaf.name.startswith(OPTIMIZER):
                self._install(leaf, params)

    def _install(self, leaf: Leaf, params: Mapping[str, Tensor]) -> None:
        """Gives the optimizer a state that was made for its first step."""
        param = params[PARAMS + leaf.name.removeprefix(OPTIMIZER).removesuffix(f".{leaf.key}")]
        if self.optimizer is not None and not self.optimizer.state.get(param):
            self.optimizer.state[param] = leaf.owner

    def _write_gradients(self, found: Mapping[str, Any], leaves: Sequence[Leaf]) -> None:
        """Gradients that the step leaves behind, or took away."""
        for leaf in leaves:
            if leaf.name.startswith(PARAMS):
                name = leaf.name.removeprefix(PARAMS)
                value = found.get(GRADS + name, found.get(LEFT + name))
                leaf.tensor.grad = None if value is None else like(leaf.tensor, value)
