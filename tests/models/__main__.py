"""Runs the checks of the list and writes the table in `docs/models.md`, row by row.

python -m tests.models                     every model, both ways
python -m tests.models --resume            what the page does not have yet
python -m tests.models GPT2 Llama          models whose names contain these words
python -m tests.models --backend step      the listed models, compiled, two stages; prints, writes nothing
"""

import argparse
import sys
import time
import warnings
from collections.abc import Sequence

import torch

from tests.models import native, table, through_pipeline
from tests.models.entry import Entry
from tests.models.listed import ENTRIES, LISTED
from tests.models.problem import Problem


def chosen(entries: Sequence[Entry], words: Sequence[str]) -> list[Entry]:
    """The entries whose names contain one of the words; all without words."""
    return [e for e in entries if not words or any(word in e.name for word in words)]


def fill(entries: Sequence[Entry]) -> None:
    """Checks models, and adds a row for each."""
    for entry in entries:
        start = time.perf_counter()
        found = table.outcomes(native.checks(entry), table.NATIVE)
        found += table.outcomes(through_pipeline.checks(entry), table.PIPELINE)
        seconds = time.perf_counter() - start
        rows = table.rows_of(table.PAGE) | {entry.name: table.row(entry.name, found, seconds)}
        table.write(table.PAGE, rows, [e.name for e in ENTRIES])
        print(f"{entry.name}: {seconds:.0f} s", flush=True)
        for column, one in zip(table.COLUMNS, found, strict=True):
            if isinstance(one, str):
                print(f"    {column}: {one}"[:400], flush=True)


def compiled(entries: Sequence[Entry], backend: str) -> None:
    """Gradients and three steps of models in two stages through a compiled backend."""
    for entry in entries:
        start, problem = time.perf_counter(), Problem.of(entry)
        checks = {
            "gradients": lambda p=problem: native.gradients(p, p.entry.two, backend),
            "three steps": lambda p=problem: native.three_steps(p, p.entry.two, backend),
        }
        found = table.outcomes(checks, list(checks))
        print(f"{entry.name}: {found}, {time.perf_counter() - start:.0f} s", flush=True)


def main(given: Sequence[str] | None = None) -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.models")
    parser.add_argument("words", nargs="*", help="models whose names contain one of them; all by default")
    parser.add_argument("--resume", action="store_true", help="leave out what the page has")
    parser.add_argument("--backend", choices=("step", "regions"), help="gradients and steps of the list, compiled")
    asked = parser.parse_args(given)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if asked.backend:
        compiled(chosen(LISTED, asked.words), asked.backend)
        return
    known = table.rows_of(table.PAGE) if asked.resume else {}
    entries = [e for e in chosen(ENTRIES, asked.words) if e.name not in known]
    if not entries:
        print("nothing to do", file=sys.stderr)
    fill(entries)


if __name__ == "__main__":
    main()
