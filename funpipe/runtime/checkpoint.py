"""Checkpoints by name, on torch.distributed.checkpoint: each rank writes and reads the leaves that it owns.

A checkpoint is complete or absent: it is written to a hidden folder beside its place and renamed when all ranks are
done. Where it replaces an older one there are two renames; a process that ends between them leaves the older one under
its hidden name, where `load` and `latest` find it.

    .step-7.incomplete  ──2──►  step-7  ──1──►  .step-7.previous  ──3──►  gone
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter

from funpipe._errors import CheckpointError, FunpipeError
from funpipe.runtime import folders, leaves
from funpipe.runtime.leaves import StateDict
from funpipe.runtime.mesh import Mesh

R = TypeVar("R")


def save(path: str | Path, state_dict: StateDict, mesh: Mesh | None = None) -> None:
    """Writes a checkpoint; every rank of the mesh calls it with the leaves that it owns.

    A leaf that several ranks own (replicas, tied copies, the step) is written once, by the first of them: where their
    values differ (buffers), those of replica 0 are kept. Other tools read the folder with
    torch.distributed.checkpoint, or as one file after `dcp_to_torch_save`.

    Args:
        path: the checkpoint's folder, the same on all ranks, on a file system that all of them see; replaced if it
            exists.
        state_dict: nested dicts of tensors and plain values; a leaf's name is its keys joined by dots.
        mesh: the ranks that write together; None: this process alone.

    Raises:
        CheckpointError: a rank could not write, or two leaves have the same name; on every rank. The checkpoint that
            was there before is untouched.

    Example:
        >>> import tempfile, torch
        >>> folder = tempfile.TemporaryDirectory()
        >>> save(f"{folder.name}/step-1", {"params": {"layers.0.bias": torch.ones(2)}, "step": 1})
        >>> load(f"{folder.name}/step-1", {"params": {"layers.0.bias": torch.zeros(2)}, "step": 0})
        {'params': {'layers.0.bias': tensor([1., 1.])}, 'step': 1}
        >>> folder.cleanup()
    """
    path = Path(path)
    if mesh is None and dist.is_initialized() and dist.get_world_size() > 1:
        raise CheckpointError(
            f"{dist.get_world_size()} processes would each write the whole of {path}; pass mesh= to save together"
        )
    first = mesh is None or dist.get_rank() == 0
    _together(mesh, path, lambda: leaves.names(state_dict))
    _together(mesh, path, lambda: folders.clear(path) if first else None)
    _together(mesh, path, lambda: _write(folders.part(path), state_dict, alone=mesh is None))
    _together(mesh, path, lambda: folders.swap(path) if first else None)


def load(path: str | Path, template: StateDict, mesh: Mesh | None = None) -> StateDict:
    """Reads the leaves named by a template, whichever and however many ranks saved them.

    Args:
        path: the checkpoint's folder.
        template: nested dicts as for `save`, with the leaves this rank wants: for a tensor only its shape, strides,
            dtype and device matter (meta tensors are read to the CPU). It is not changed.
        mesh: the ranks that read together, each its own leaves: an error of one is then raised on all. None: this
            process alone.

    Returns:
        A dict like the template, with new tensors.

    Raises:
        CheckpointError: there is no complete checkpoint, or a leaf is missing or has another shape or dtype.

    Example:
        >>> import tempfile, torch
        >>> folder = tempfile.TemporaryDirectory()
        >>> save(f"{folder.name}/last", {"params": {"weight": torch.ones(2), "bias": torch.ones(1)}})
        >>> load(f"{folder.name}/last", {"params": {"bias": torch.empty(1, device="meta")}})
        {'params': {'bias': tensor([1.])}}
        >>> folder.cleanup()
    """
    return _together(mesh, Path(path), lambda: _read(folders.place(Path(path)), template))


def latest(folder: str | Path) -> Path | None:
    """Finds the newest checkpoint of a run.

    Args:
        folder: where checkpoints named `step-N` lie.

    Returns:
        The complete one with the largest N, or None.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> for step in (9, 10):
        ...     save(f"{folder.name}/step-{step}", {"step": step})
        >>> latest(folder.name).name
        'step-10'
        >>> folder.cleanup()
    """
    names = (re.fullmatch(r"\.?step-(\d+)(\.previous)?", entry.name) for entry in Path(folder).glob("*"))
    steps = sorted({int(name[1]) for name in names if name}, reverse=True)
    paths = (Path(folder) / f"step-{step}" for step in steps)
    return next((path for path in paths if folders.complete(folders.place(path))), None)


def _write(part: Path, state_dict: StateDict, alone: bool) -> None:
    """Writes this rank's leaves; torch plans with the other ranks unless alone."""
    with _errors_of_torch(part):
        planner = DefaultSavePlanner(dedup_save_to_lowest_rank=True)
        state_dict_saver.save(state_dict, storage_writer=FileSystemWriter(part), planner=planner, no_dist=alone)


def _read(path: Path, template: StateDict) -> StateDict:
    """Reads the template's leaves; reading needs no other rank."""
    if not folders.complete(path):
        raise CheckpointError(
            f"there is no complete checkpoint at {path}; give the folder that save wrote, or latest(folder)"
        )
    with _errors_of_torch(path):
        stored = FileSystemReader(path).read_metadata().state_dict_metadata
    for name, leaf in leaves.names(template).items():
        leaves.check(path, name, leaf, stored)
    found = leaves.replace(leaves.blank, template)
    with _errors_of_torch(path):
        state_dict_loader.load(found, storage_reader=FileSystemReader(path), no_dist=True)
    return found


@contextmanager
def _errors_of_torch(path: Path) -> Iterator[None]:
    """Turns torch's errors into ours, and keeps its word on running alone to itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        try:
            yield
        except CheckpointException as error:
            causes = {rank: cause for rank, (cause, _) in error.failures.items()}
            if any(isinstance(cause, KeyboardInterrupt) for cause in causes.values()):
                raise KeyboardInterrupt from error
            text = "; ".join(f"rank {rank}: {type(cause).__name__}: {cause}" for rank, cause in causes.items())
            raise CheckpointError(f"{path}: {text}; check the folder, its rights and free space") from error


def _together(mesh: Mesh | None, path: Path, act: Callable[[], R]) -> R:
    """Acts on every rank; where it fails on one, all raise, and none goes on before all have acted."""
    outcome = _attempt(path, act)
    if mesh is not None:
        told: list[str | None] = [None] * dist.get_world_size()
        dist.all_gather_object(told, str(outcome) if isinstance(outcome, CheckpointError) else None)
        if not isinstance(outcome, CheckpointError):
            outcome = next((CheckpointError(f"rank {rank}: {text}") for rank, text in enumerate(told) if text), outcome)
    if isinstance(outcome, CheckpointError):
        raise outcome
    return outcome


def _attempt(path: Path, act: Callable[[], R]) -> R | CheckpointError:
    """What an act returns, or the error it ended with, in our words."""
    try:
        return act()
    except CheckpointError as error:
        return error
    except FunpipeError as error:  # it says what to do
        ours = CheckpointError(f"{path}: {error}")
        ours.__cause__ = error
        return ours
    except Exception as error:
        ours = CheckpointError(f"{path}: {type(error).__name__}: {error}; check the folder, its rights and free space")
        ours.__cause__ = error
        return ours
