"""Compiles one rank of a small program in the ways that are asked for, `exact` or `fast`; a test runs it in fresh
processes. Says how many graphs were written, and how often the fast one communicates.
"""

import sys
from typing import Any

from funpipe import _compat
from funpipe.backends import Request, compile
from funpipe.backends.installed import new_handle
from funpipe.backends.order import generated_communication
from funpipe.optim import adamw
from funpipe.passes import optimize
from tests.backends.ranks import example_of
from tests.programs.models import chain, programs_of


def main() -> None:
    optimizer = adamw(1e-3)
    programs = optimize(programs_of(chain, 2, 2, optimizer=optimizer))
    written = 0
    inner = _compat.write_kernels

    def counted(*args: Any) -> str:
        nonlocal written
        written += 1
        return inner(*args)

    _compat.write_kernels = counted
    communicated, handle = 0, new_handle()
    for way in sys.argv[1:]:
        made: Any = compile("step", programs, Request(0, handle, way == "fast"), optimizer, example_of(programs, 0))
        if way == "fast":
            communicated = len(generated_communication(made.code["step"][0], handle))
    print(written, communicated)


if __name__ == "__main__":
    main()
