"""Between a rank's state values (flat buckets) and leaves by name."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from funpipe._errors import StateError
from funpipe.functional.deferred import is_deferred, made
from funpipe.optim import Optimizer
from funpipe.programs.layout import Bucket, Layout
from funpipe.programs.program import Program, Programs
from funpipe.programs.slot_values import by_leaf, slots_of, split_name

Named = dict[str, Tensor]


def state_names(program: Program) -> list[str]:
    """The names of a program's inputs that belong to the state."""
    kinds = ("bucket", "slot", "leaf", "step", "key", "scale", "buffer")
    return [n for n in program.inputs if n.split(".")[0] in kinds]


def fill(bucket: Bucket, leaves: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """A new flat buffer that holds copies of a bucket's leaves, zeros between them.

    Args:
        bucket: where each leaf belongs.
        leaves: by name.
        device: where to make it.

    Returns:
        One-dimensional, of the bucket's size and dtype.

    Example:
        >>> from funpipe.programs.layout import Slot
        >>> bucket = Bucket("s0_float32", 0, torch.float32, None, (Slot("w", 0, (2,)),), 4)
        >>> fill(bucket, {"w": torch.ones(2)}, torch.device("cpu"))
        tensor([1., 1., 0., 0.])
    """
    flat = torch.zeros(bucket.size, dtype=bucket.dtype, device=device)
    for slot in bucket.slots:
        slot.view(flat).copy_(made(leaves[slot.leaf]).detach())
    return flat


def initial_values(
    programs: Programs,
    program: Program,
    params: Named,
    buffers: Named,
    optimizer: Optimizer | None,
    device: torch.device,
) -> Named:
    """A rank's state before the first step: copies of its leaves, and the optimizer's slots."""
    _require_values(params, "params")
    _require_values(buffers, "buffers")
    values: Named = {}
    for name in state_names(program):
        kind, _, rest = name.partition(".")
        if kind == "bucket":
            values[name] = fill(programs.layout.bucket(rest), params, device)
            values |= initial_slots(optimizer, programs.layout.bucket(rest), values[name])
        elif kind == "leaf":
            dtype = programs.types[name].dtype
            values[name] = made(params[rest]).detach().to(device, dtype, copy=True).contiguous()
        elif kind == "buffer":
            values[name] = made(buffers[rest]).detach().to(device, copy=True).contiguous()
    values["step"] = torch.zeros((), dtype=torch.int64, device="cpu")
    if program.rank == 0:
        values |= {
            f"buffer.{n}": made(b).detach().to(device, copy=True) for n, b in buffers.items() if is_unused(programs, n)
        }
    return values


def is_unused(programs: Programs, buffer: str) -> bool:
    """Whether no rank reads or updates a buffer: the first one keeps it then."""
    return not any(f"buffer.{buffer}" in p.inputs for p in programs.programs)


def initial_slots(optimizer: Optimizer | None, bucket: Bucket, flat: Tensor) -> Named:
    """The optimizer's slots of a bucket, by the names that programs use.

    Args:
        optimizer: None has none.
        bucket: the bucket.
        flat: its parameters.

    Returns:
        New tensors: `slot.PATH.BUCKET`, or one for each leaf, `slot.PATH:LEAF.BUCKET`, where the update is of leaves.

    Example:
        >>> from funpipe.optim import sgd
        >>> from funpipe.programs.layout import Slot
        >>> bucket = Bucket("s0_float32", 0, torch.float32, None, (Slot("w", 0, (2,)),), 4)
        >>> list(initial_slots(sgd(0.1, momentum=0.9), bucket, torch.zeros(4)))
        ['slot.momentum.s0_float32']
    """
    found = slots_of(optimizer, bucket, flat) if optimizer else {}
    return {f"slot.{name}.{bucket.name}": slot for name, slot in found.items()}


def _require_values(leaves: Named, what: str) -> None:
    for name, leaf in leaves.items():
        if leaf.device.type == "meta" and not is_deferred(leaf):
            raise StateError(
                f"{what}: leaf {name!r} is on the meta device and has no values: give it values first "
                "(fp.init(module_fn, key) gives them on each rank, or module.to_empty(device=...) and an "
                "initialization), or use step.trace for shapes alone."
            )


def leaves(layout: Layout, values: Named) -> Named:
    """A rank's parameters by leaf name: views of its buckets, and its loose leaves."""
    return dict(_views(layout, values, "bucket.")) | {
        n.removeprefix("leaf."): v for n, v in values.items() if n.startswith("leaf.")
    }


def buffers(values: Named) -> Named:
    """A rank's buffers by name."""
    return {n.removeprefix("buffer."): v for n, v in values.items() if n.startswith("buffer.")}


def slots(layout: Layout, values: Named) -> dict[str, Named]:
    """A rank's optimizer slots: for each slot's path its leaves by name, as views."""
    found: dict[str, Named] = {}
    for value, tensor in values.items():
        if value.startswith("slot."):
            name, bucket = split_name(value)
            for path, leaf, slot in by_leaf(layout.bucket(bucket), name, tensor):
                found.setdefault(path, {})[leaf] = slot
    return found


def _views(layout: Layout, values: Named, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for bucket in layout.buckets:
        flat = values.get(f"{prefix}{bucket.name}")
        if flat is not None:
            yield from ((slot.leaf, slot.view(flat)) for slot in bucket.slots)
