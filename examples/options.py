"""The options of train_gpt.py: what they mean, and which of them go together."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import text

import funpipe as fp

DECIDE = ("width", "layers", "heads", "context", "batch_size", "lr", "steps", "seed")
"""What a run that goes on must keep; ranks, schedule and backend may be others."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help shows all options)\n")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line, and ends the program where it asks for something impossible.

    Besides the options there is `newest`: the checkpoint to go on from, or None.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    options.newest = fp.checkpoint.latest(options.checkpoint) if options.resume else None
    if wrong := next(_wrong(options), None):
        parser.error(wrong)
    return options


def deciding(options: argparse.Namespace) -> dict[str, int | float]:
    """The options that a checkpoint remembers."""
    return {name: getattr(options, name) for name in DECIDE}


def _count(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is no whole number above 0")
    return int(value)


def _rate(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{value!r} is no number above 0")
    return number


COUNT: dict[str, Any] = {"type": _count, "metavar": "N"}


def _parser() -> Parser:
    parser = Parser(
        prog="train_gpt.py",
        description="Trains a GPT on the English text that comes with Python, with one process for each stage: on "
        "this machine, or wherever torchrun starts it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("pipeline").add_argument
    add("--ranks", **COUNT, default=2, help="processes along the pipeline")
    add("--dp", **COUNT, default=1, help="replicas of the pipeline, each on processes of its own")
    add("--schedule", metavar="NAME", default="1f1b", help="1f1b or gpipe")
    add("--microbatches", **COUNT, default=8, help="of a replica in a step")
    add("--backend", default="step", choices=("step", "regions", "interpret"), help="compiles all, parts or nothing")
    add("--device", default="cpu", choices=("cpu", "cuda"), help="cuda needs a GPU for each process")
    add = parser.add_argument_group("training").add_argument
    add("--steps", **COUNT, default=500, help="updates")
    add("--batch-size", **COUNT, default=32, help="windows of text in a step, over all replicas")
    add("--lr", type=_rate, metavar="RATE", default=3e-3, help="the highest learning rate")
    add("--seed", type=int, metavar="N", default=0, help="of the first parameters, the windows and the sample")
    add = parser.add_argument_group("model").add_argument
    add("--width", **COUNT, default=128, help="of what goes from block to block")
    add("--layers", **COUNT, default=4, help="number of blocks")
    add("--heads", **COUNT, default=4, help="of a block's attention")
    add("--context", **COUNT, default=64, help="bytes in a window of text")
    add = parser.add_argument_group("output").add_argument
    add(
        "--checkpoint",
        type=Path,
        metavar="FOLDER",
        default=Path("checkpoints/gpt"),
        help="folder for this run's checkpoints",
    )
    add("--checkpoint-every", **COUNT, default=100, help="steps between them; there is one at the end too")
    add("--resume", action="store_true", help="go on from the newest checkpoint, as if the run had never stopped")
    add("--sample-bytes", **COUNT, default=400, help="length of the text that is written at the end")
    return parser


def _wrong(o: argparse.Namespace) -> Iterator[str]:
    """What does not go together, and what would."""
    try:
        stages = fp.schedules.get(o.schedule)().table(o.ranks, o.microbatches).num_stages
    except fp.FunpipeError as error:
        yield f"--schedule {o.schedule}: {error}"
        return
    if o.layers < stages:
        yield f"--ranks {o.ranks} needs {stages} stages, more than there are --layers {o.layers}: use --layers {stages}"
    if o.width % o.heads:
        yield f"--width {o.width} is no multiple of --heads {o.heads}: use --width {_up(o.width, o.heads)}"
    rows = o.dp * o.microbatches
    if o.batch_size % rows:
        yield (
            f"--batch-size {o.batch_size} is no multiple of --dp {o.dp} times --microbatches {o.microbatches}: "
            f"use --batch-size {_up(o.batch_size, rows)}"
        )
    if o.context > (longest := len(text.load().held_out) - 1):
        yield f"--context {o.context} is more than the held-out text has: use at most {longest}"
    if o.resume:
        yield from _wrong_to_resume(o)


def _wrong_to_resume(o: argparse.Namespace) -> Iterator[str]:
    if o.newest is None:
        yield f"--resume finds no checkpoint in {o.checkpoint}: leave it out, or name another folder by --checkpoint"
        return
    saved = fp.checkpoint.load(o.newest, {"options": deciding(o)})["options"]
    for name, value in deciding(o).items():
        if saved[name] != value:
            option = f"--{name.replace('_', '-')}"
            yield f"--resume: {o.newest} was made with {option} {saved[name]}, not {value}: use {option} {saved[name]}"


def _up(number: int, divisor: int) -> int:
    """The next multiple."""
    return -(-number // divisor) * divisor
