"""A piece that is compiled once for every size."""

from dataclasses import dataclass
from typing import Any

from funpipe import _compat
from funpipe.backends.dynamic.holds import with_conditions
from funpipe.backends.dynamic.template import Template, layouts_at, symbolic
from funpipe.backends.inductor import Source


@dataclass(frozen=True, eq=False)
class AnySize(Source):
    """A graph to be compiled for every size; `module` and `types` are of one of them.

    Args:
        template: how its integers follow the size.
        first_size: whether code is shared only with those that begin at the same size; that of another one may have
            conditions that this size does not meet.
    """

    template: Template
    first_size: bool = False

    @property
    def size(self) -> int:
        """The size that it has now."""
        return self.types[self.template.argument].shape[self.template.dim]

    @property
    def text(self) -> str:
        """What is compiled."""
        return f"any size {self.template}" + (f" first {self.size}" if self.first_size else "")

    def write(self, options: dict[str, Any]) -> str:
        """Has the compiler write its code, with the conditions under which it may run."""
        made = self.template
        code, symbol, conditions = _compat.write_kernels_for_sizes(
            symbolic(self.module, made),
            self.types,
            lambda size: layouts_at(self.types, made, size),
            self.size,
            options,
        )
        return with_conditions(code, symbol, conditions)
