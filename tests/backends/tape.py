"""A recorder for tests: what a GPU would do with a step that is recorded and replayed, played on the CPU.

While it records, every operator on the "device" is noted, and what it wrote is put back: a recording runs nothing. A
replay runs the operators again on the same memory. Tensors that are said to be on the host are as on a host: operators
on them alone run once, while the step is recorded, and their values are fixed in what is noted.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import optree
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in optree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@dataclass(frozen=True, eq=False)
class Noted:
    """An operator, what it takes, and where its results are after each replay."""

    operator: Any
    args: Any
    kwargs: Any
    results: list[Tensor]

    def run(self) -> None:
        with torch.no_grad():
            found = tensors(self.operator(*self.args, **self.kwargs))
            for old, new in zip(self.results, found, strict=True):
                if memory(old) != memory(new):
                    old.copy_(new)


class Tape(TorchDispatchMode):
    """Notes operators while it is entered."""

    def __init__(self, host: set[int]) -> None:
        super().__init__()
        self.host, self.made = set(host), set[int]()
        self.noted: list[Noted] = []
        self.before: dict[int, tuple[Any, Any]] = {}
        self.kept: list[Tensor] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = tensors((args, kwargs))
        if given and all(memory(t) in self.host for t in given):
            found = operator(*args, **kwargs)
            self.kept += tensors(found)  # a number's memory must not become another's
            self.host |= {memory(t) for t in tensors(found)}
            return found
        for tensor in given:
            if memory(tensor) not in self.made | self.host | self.before.keys():
                storage = tensor.untyped_storage()
                self.before[memory(tensor)] = storage, storage.clone()
        args, kwargs = optree.tree_map(self.fixed, (args, kwargs))
        found = operator(*args, **kwargs)
        self.made |= {memory(t) for t in tensors(found)} - self.before.keys()
        self.noted.append(Noted(operator, args, kwargs, tensors(found)))
        return found

    def fixed(self, leaf: Any) -> Any:
        """A number of the host is an argument of a kernel: its value is what counts."""
        return leaf.clone() if isinstance(leaf, Tensor) and memory(leaf) in self.host else leaf

    def put_back(self) -> None:
        for storage, before in self.before.values():
            storage.copy_(before)


@dataclass(eq=False)
class Recorder:
    """Implements `Recorder`.

    Args:
        host: tensors on the host.
    """

    host: Iterable[Tensor] = ()
    replayed: int = 0
    tapes: list[Tape] = field(default_factory=list)

    def __call__(self, run: Callable[[], dict[str, Tensor]]) -> tuple[Callable[[], None], dict[str, Tensor]]:
        tape = Tape({memory(t) for t in self.host})
        with tape:
            results = run()
        tape.put_back()
        self.tapes.append(tape)

        def replay() -> None:
            self.replayed += 1
            for noted in tape.noted:
                noted.run()

        return replay, results
