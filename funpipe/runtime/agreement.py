"""Whether all ranks planned the same, by a hash of the plan, and whether all of them could compile it."""

import hashlib
from itertools import zip_longest

import torch
from torch import Tensor

from funpipe._errors import CompileError, MeshError
from funpipe.backends.transport import Transport
from funpipe.programs.program import Programs
from funpipe.runtime.mesh import Mesh


def require_agreement(programs: Programs, transport: Transport, mesh: Mesh) -> None:
    """Raises on every rank unless all of them made the same programs.

    Args:
        programs: this rank's view of the whole plan.
        transport: to the others.
        mesh: all ranks.

    Raises:
        MeshError: the plans differ; the first differing line is named.
    """
    digest = hashlib.sha256(programs.digest().encode()).digest()
    mine = torch.frombuffer(bytearray(digest), dtype=torch.uint8).to(mesh.device)
    others = transport.all_gather_start(mine, "world").wait()
    differing = [rank for rank, other in enumerate(others) if not torch.equal(other, others[0])]
    if differing:
        raise MeshError(_difference_text(programs, transport, mesh, differing))


def require_same_graphs(text: str, own_rank: bool, transport: Transport, mesh: Mesh) -> None:
    """Raises on every rank unless the ranks that run the same graph have the same one.

    Args:
        text: this rank's graph.
        own_rank: whether a pipeline rank has a graph of its own, which only its replicas share; else all ranks do.
        transport: to the others.
        mesh: all ranks.

    Raises:
        MeshError: the graphs differ; the first differing line is named.
    """
    kind = f"{own_rank}\n{text}" if not own_rank else f"{own_rank}\nrank {mesh.pp_rank}\n{text}"
    mine = torch.frombuffer(bytearray(hashlib.sha256(kind.encode()).digest()), dtype=torch.uint8).to(mesh.device)
    others = transport.all_gather_start(mine, "world").wait()
    same = [rank % mesh.shape.pp if own_rank else 0 for rank in range(len(others))]
    differing = [rank for rank, first in enumerate(same) if not torch.equal(others[rank], others[first])]
    # The ranks see differing ones alike only if they agree on whether each has its own, so all of them tell.
    told = transport.all_gather_start(torch.tensor([len(differing)], device=mesh.device), "world").wait()
    if any(int(count) for count in told):
        texts = gather_texts(text, transport, mesh)
        odd = differing[0] if differing else next(rank for rank, count in enumerate(told) if int(count))
        raise MeshError(
            f"the ranks compile different graphs: global rank {odd} differs from rank {same[odd]} in "
            f"{first_difference(texts[same[odd]], texts[odd])}. Trace the step with the same arguments, and apply the "
            "same passes, on every rank."
        )


def require_compiled(transport: Transport | None, mesh: Mesh | None, error: Exception | None = None) -> None:
    """Waits until all ranks have compiled their steps; raises on every rank if one of them could not.

    Args:
        transport: to the others; None where there are none.
        mesh: all ranks.
        error: why this one could not.

    Raises:
        CompileError: another rank could not.
    """
    if transport is None or mesh is None:
        return
    mine = torch.tensor([error is not None], dtype=torch.uint8, device=mesh.device)
    failed = [rank for rank, part in enumerate(transport.all_gather_start(mine, "world").wait()) if part.item()]
    if failed and error is None:
        raise CompileError(
            f"global rank {failed[0]} could not compile its part of the step, so no rank runs it: its own error says "
            "why, and what to do there."
        )


def _difference_text(programs: Programs, transport: Transport, mesh: Mesh, differing: list[int]) -> str:
    """Every rank's plan is gathered as text, so that each rank can name the first line that differs."""
    texts = gather_texts(programs.as_text(), transport, mesh)
    return (
        f"the ranks planned different steps: global rank {differing[0]} differs from rank 0 in "
        f"{first_difference(texts[0], texts[differing[0]])}. Call "
        "train_step with the same arguments, and the step with batches of the same shapes, on every rank."
    )


def first_difference(one: str, other: str) -> str:
    """The first line in which two texts differ, of both.

    Args:
        one, other: the texts.

    Example:
        >>> first_difference("a\\nb", "a\\nc")
        "'b' and 'c'"
    """
    pairs = zip_longest(one.splitlines(), other.splitlines(), fillvalue="")
    return next((f"{a!r} and {b!r}" for a, b in pairs if a != b), "types, layout or regions")[:600]


def gather_texts(text: str, transport: Transport, mesh: Mesh) -> list[str]:
    """A text of every rank, in the order of the ranks; all of them call it.

    Args:
        text: this rank's.
        transport: to the others.
        mesh: all ranks.
    """
    raw = text.encode()
    sizes = [int(s) for s in transport.all_gather_start(torch.tensor([len(raw)], device=mesh.device), "world").wait()]
    padded = torch.frombuffer(bytearray(raw.ljust(max(sizes), b"\n")), dtype=torch.uint8).to(mesh.device)
    parts = transport.all_gather_start(padded, "world").wait()
    return [_decode(part, size) for part, size in zip(parts, sizes, strict=True)]


def _decode(part: Tensor, size: int) -> str:
    return bytes(part[:size].cpu().tolist()).decode()
