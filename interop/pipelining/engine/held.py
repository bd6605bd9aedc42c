"""`Held`: the parameters and buffers of this rank's modules, looked up once and checked to be the same ever after."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(eq=False)
class Held:
    """What the modules of a rank hold.

    Args:
        modules: by stage.
    """

    modules: Mapping[int, nn.Module]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    places: list[tuple[dict[str, Any], str, Tensor]] = field(default_factory=list)
    parts: list[nn.Module] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.look()

    def look(self) -> None:
        """Looks everything up again."""
        self.tensors, self.places, self.parts = {}, [], []
        for stage, module in self.modules.items():
            self.parts += list(module.modules())
            for name, where, key, tensor in _tensors(module):
                self.tensors[f"{stage}.{name}"] = tensor
                self.places.append((where, key, tensor))

    @property
    def mode(self) -> tuple[Any, ...]:
        """What of the modules decides what is traced: what they hold, their modes, what is trained."""
        if any(where.get(key) is not tensor for where, key, tensor in self.places):
            self.look()
        trained = [tensor.requires_grad for _, _, tensor in self.places]
        return (*[part.training for part in self.parts], *trained)


def _tensors(module: nn.Module) -> Iterator[tuple[str, dict[str, Any], str, Tensor]]:
    """Each parameter and buffer under its first name, and where the module that owns it keeps it."""
    seen: set[int] = set()
    for path, part in module.named_modules():
        for where in (part._parameters, part._buffers):
            for key, tensor in where.items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield f"{path}.{key}" if path else key, where, key, tensor
