"""What torch.distributed.pipelining gets wrong, one case each, written once for it and for the layer here.

A case is a function of an interface: the original's modules or ours. What it does with the original is kept in
`original.json`; what it has to do here stands beside it. What no run on CPUs shows has no case: that a communicator is
not warmed up (3a.6), that a simulator has no costs and FSDP's stages a fixed number (3a.7).
"""

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType
from typing import Any

ORIGINAL = "torch.distributed.pipelining"
OURS = "funpipe.interop.pipelining"


@dataclass(frozen=True)
class Interface:
    """The interface under one of its two import roots.

    Args:
        root: `ORIGINAL` or `OURS`.
        options: more keywords for every schedule; the original takes none.
    """

    root: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __getattr__(self, name: str) -> Any:
        """A public name, such as `pipeline`."""
        return getattr(importlib.import_module(self.root), name)

    def module(self, name: str) -> ModuleType:
        """One of the modules below the root, such as `schedules`."""
        return importlib.import_module(f"{self.root}.{name}")

    def schedule(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """A schedule of the class of this name."""
        return getattr(self.module("schedules"), name)(*args, **kwargs, **self.options)


Script = Callable[[Interface], Any]


@dataclass(frozen=True)
class Case:
    """One thing that goes wrong there.

    Args:
        item: the section of the list of limitations, its number and a letter: 3a is what the original says of
            itself, 3b what it does not.
        run: does it; what it returns is compared as text.
        here: the outcome here, a regular expression.
    """

    item: str
    run: Script
    here: str

    @property
    def name(self) -> str:
        """The function's."""
        return self.run.__name__

    def outcome(self, interface: Interface) -> str:
        """What it returns or raises, on one line, without what differs from run to run."""
        try:
            text = f"returns {self.run(interface)!r}"
        except Exception as error:
            text = f"raises {type(error).__name__}: {error}"
        return settled(text)

    def is_right(self, outcome: str) -> bool:
        """Whether an outcome is the one that it has to be here."""
        return re.fullmatch(self.here, outcome) is not None


def settled(text: str) -> str:
    """On one line, without addresses; how exactly a connection was lost differs from run to run."""
    line = " ".join(text.split())
    if re.search("Connection (closed|reset|refused)|Pair is not connected|Broken pipe|Timed out waiting", line):
        return f"{line.partition(':')[0]}: no connection to another rank"
    return re.sub(r"0x[0-9a-f]+", "0x", line)[:400]


def case(item: str, here: str) -> Callable[[Script], Case]:
    """Makes a function a case.

    Args:
        item: as in `Case`.
        here: the outcome here, a regular expression that matches the whole of it.
    """
    return lambda run: Case(item, run, here)


def returns(value: object) -> str:
    """The outcome of a function that returns this."""
    return re.escape(f"returns {value!r}")


def cases_in(module: ModuleType) -> dict[str, Case]:
    """The cases of a module by name."""
    return {found.name: found for found in vars(module).values() if isinstance(found, Case)}
