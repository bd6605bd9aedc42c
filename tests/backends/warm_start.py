"""Compiles one rank of a small program and says how often it communicates; a test runs it in fresh processes."""

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
    handle = new_handle()
    compiled = compile("step", programs, Request(0, handle), optimizer, example_of(programs, 0))
    print(len(generated_communication(compiled.code, handle)))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
