"""The command line: `python -m funpipe plan CONFIG` prints how to train a model on a cluster."""

import argparse
import sys
from collections.abc import Sequence
from shutil import get_terminal_size

from funpipe._errors import FunpipeError
from funpipe.planning.config import plan_file


def main(words: Sequence[str] | None = None) -> int:
    """Runs a command; returns the process's exit code.

    Args:
        words: the command line; that of the process by default.

    Returns:
        0; 1 if nothing fits; 2 if the command or the file is wrong, or asks for what cannot be.
    """
    parser = argparse.ArgumentParser(prog="python -m funpipe", description="Pipeline-parallel training of a pure loss.")
    commands = parser.add_subparsers(required=True)
    planning = commands.add_parser("plan", help="rank the ways to train a model on a cluster")
    planning.add_argument("config", help="a .toml or .json file; see funpipe.planning.plan_file")
    planning.add_argument("--verbose", action="store_true", help="also show the ranks of the best plan")
    args = parser.parse_args(words)
    try:
        plans = plan_file(args.config)
    except FunpipeError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    if not plans and not plans.short:  # more memory would not help: what is asked for does not go together
        print(f"PlanError: {plans.nothing}", file=sys.stderr)
        return 2
    print(plans.as_text(get_terminal_size().columns if sys.stdout.isatty() else None))
    if args.verbose and plans:
        print(f"\n{plans[0].as_text()}")
    return 0 if plans else 1


if __name__ == "__main__":
    sys.exit(main())
