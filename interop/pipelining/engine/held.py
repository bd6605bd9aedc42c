"""`Held`: the parameters and buffers of this rank's modules, looked up once and again whenever a module changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from funpipe.interop.pipelining.engine.constants import Same
from funpipe.interop.pipelining.engine.marks import Marks, marks_of


@dataclass(eq=False)
class Held:
    """What the modules of a rank hold.

    Args:
        modules: by stage.
        stages: whose `submod` they are; a module that is put in its place is taken from there.
        others: further things whose attributes decide what is traced: the loss function.
    """

    modules: Mapping[int, nn.Module]
    stages: Sequence[Any] = ()
    others: Sequence[Any] = ()
    tensors: dict[str, Tensor] = field(default_factory=dict)
    looks: int = 0
    versions: dict[Any, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.look()

    def look(self) -> None:
        """Looks everything up again."""
        self.modules = {**self.modules, **{s.stage_index: s.submod for s in self.stages}}
        found = {f"{stage}.{name}": t for stage, module in self.modules.items() for name, t in _tensors(module)}
        self.tensors, self.looks = found, self.looks + 1
        self.placed = [t for t in found.values() if type(t) in (Tensor, nn.Parameter)]
        self.addresses = [t.data_ptr() for t in self.placed]
        self.parts = [part for module in self.modules.values() for part in module.modules()]
        self.marks = _marks(self.parts, self.others)
        kinds = [(name, t.shape, t.dtype, t.device) for name, t in found.items() if not nn.parameter.is_lazy(t)]
        self.print = (*map(Same, self.parts), *self.marks.key, *kinds)
        self.version = self.versions.setdefault(self.print, len(self.versions))

    def settle(self) -> None:
        """Takes what tracing did to attributes of modules as it is: a call counted, but no tensor kept."""
        version = self.version
        self.marks.take_back()
        self.look()
        self.versions[self.print] = self.version = version

    @property
    def mode(self) -> tuple[Any, ...]:
        """What of the modules decides what is traced: what they hold, their modes, what is trained."""
        if self._changed():
            self.look()
        trained = [tensor.requires_grad for tensor in self.tensors.values()]
        return (self.version, *[part.training for part in self.parts], *trained)

    def _changed(self) -> bool:
        """Whether something is another object, or lies elsewhere, as after `.data = ` and `.to()`."""
        replaced = any(s.submod is not self.modules[s.stage_index] for s in self.stages)
        return replaced or self.marks.changed() or [t.data_ptr() for t in self.placed] != self.addresses


def _marks(parts: Sequence[nn.Module], others: Sequence[Any]) -> Marks:
    inside = [part for other in others if isinstance(other, nn.Module) for part in other.modules()]
    return marks_of(parts, [*inside, *(other for other in others if not isinstance(other, nn.Module))])


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Each parameter and buffer under its first name."""
    seen: set[int] = set()
    for path, part in module.named_modules():
        for key, tensor in (*part._parameters.items(), *part._buffers.items()):
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"{path}.{key}" if path else key, tensor
