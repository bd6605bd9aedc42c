"""The folders of one checkpoint: where it is written, how it takes its place, and where it is after an interruption."""

import shutil
from pathlib import Path

from funpipe._errors import CheckpointError


def part(path: Path) -> Path:
    """Where a checkpoint is written."""
    return path.parent / f".{path.name}.incomplete"


def complete(path: Path) -> bool:
    """Whether torch wrote its table of contents, which it does last."""
    return (path / ".metadata").is_file()


def previous(path: Path) -> Path:
    """Where the replaced checkpoint waits while the new one takes its place."""
    return path.parent / f".{path.name}.previous"


def place(path: Path) -> Path:
    """The folder that holds the checkpoint, also when replacing it was interrupted between the renames."""
    return previous(path) if not path.exists() and complete(previous(path)) else path


def clear(path: Path) -> None:
    """Removes what an interrupted save left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path} is a file; a checkpoint is a folder, choose another path")
    if not path.exists() and previous(path).exists():
        previous(path).rename(path)
    for left in (part(path), previous(path)):
        if left.exists():
            shutil.rmtree(left)


def swap(path: Path) -> None:
    """Puts the finished checkpoint in its place."""
    if path.exists():
        path.rename(previous(path))
    part(path).rename(path)
    if previous(path).exists():
        shutil.rmtree(previous(path))
