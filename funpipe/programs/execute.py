"""What each instruction means, eagerly: the definition that the other backends are tested against."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce as fold
from typing import Any

import torch
from torch import Tensor

from funpipe._errors import ProgramError
from funpipe.functional.precision.scale import rescaled
from funpipe.functional.reducers import combine
from funpipe.optim import Optimizer
from funpipe.programs.instructions import (
    Accumulate,
    Cast,
    Choose,
    Constant,
    Flatten,
    Free,
    Instruction,
    Keys,
    Microbatch,
    Overflow,
    Overlap,
    Reduce,
    Rescale,
    Run,
    Scale,
    Squares,
    Store,
    Update,
    Zero,
)
from funpipe.programs.keys import key_in, keys_of_step
from funpipe.programs.layout import Bucket
from funpipe.programs.program import Programs
from funpipe.programs.skipping import overflow, unless
from funpipe.programs.slot_values import split_name
from funpipe.programs.update import before_norm, norm_of, squares, updated

RunRegion = Callable[[str, list[Tensor]], Any]
"""Runs a region by name."""


@dataclass
class Environment:
    """The values of one rank while a step runs.

    Args:
        programs: what is run.
        values: by name.
        optimizer: for `Update`.
        run: how a region is run; by default its graph, operator by operator.
        scalars: the optimizer's numbers of this step, where they are already known.
    """

    programs: Programs
    values: dict[str, Tensor]
    optimizer: Optimizer | None = None
    run: RunRegion | None = None
    scalars: dict[str, Tensor] | None = None

    def __getitem__(self, name: str) -> Tensor:
        kind, _, leaf = name.partition(".")
        if kind == "random":
            return key_in(self.values["keys"], self.programs.keys, name)
        if kind not in ("param", "master") or name in self.values:
            return self.values[name]
        base = self.programs.layout.base(name)
        if base is not None and base[0] in self.values:
            return base[1].view(self.values[base[0]])
        return self.values[f"leaf.{leaf}"]

    def bucket(self, name: str) -> Bucket:
        """A bucket by name."""
        return self.programs.layout.bucket(name)

    def region(self, name: str, inputs: list[Tensor]) -> Any:
        """The outputs of a region."""
        return self.run(name, inputs) if self.run else self.programs.regions[name].module(*inputs)


def execute(instruction: Instruction, env: Environment) -> None:
    """Runs one instruction that needs no other rank.

    Args:
        instruction: any but `Send`, `WaitSend`, `PostRecv`, `WaitRecv` and `AllReduce`.
        env: the rank's values; changed.
    """
    _MEANING[type(instruction)](instruction, env)


def slice_of(batch: Tensor, index: int, dim: int | None, count: int) -> Tensor:
    """Rows of one microbatch of a batch leaf, laid out in rows; the whole leaf if it is replicated."""
    if dim is None:
        return batch.contiguous()
    size = batch.shape[dim] // count
    return batch.narrow(dim, index * size, size).contiguous()


def _microbatch(i: Microbatch, env: Environment) -> None:
    for leaf, name in zip(i.leaves, i.writes, strict=True):
        dim = env.programs.batch_dims[leaf]
        env.values[name] = slice_of(env[f"batch.{leaf}"], i.index, dim, env.programs.num_microbatches)


def _keys(i: Keys, env: Environment) -> None:
    env.values["keys"] = keys_of_step(env["key"], env["step"], env["replica"], env.programs.num_microbatches, i.names)


def _run(i: Run, env: Environment) -> None:
    outputs = env.region(i.region, [env[n] for n in i.reads])
    env.values.update(zip(i.writes, outputs, strict=True))


def _overlap(i: Overlap, env: Environment) -> None:
    """One after the other: what they compute does not depend on each other."""
    _run(i.first, env)
    _run(i.second, env)


def _zero(i: Zero, env: Environment) -> None:
    for name in i.writes:
        kind = env.programs.types[name]
        env.values[name] = torch.zeros(kind.shape, dtype=kind.dtype, device=kind.device)


def _accumulate(i: Accumulate, env: Environment) -> None:
    for accumulator, value in zip(i.accumulators, i.values, strict=True):
        env.values[accumulator] = env[accumulator] + env[value]


def flatten(bucket: Bucket, places: list[list[Tensor]], device: str | torch.device) -> Tensor:
    """The places of each leaf, added in order, in one flat buffer; zeros between the leaves.

    Args:
        bucket: the bucket.
        places: for each of its leaves the accumulators.
        device: where to make it.
    """
    parts: list[Tensor] = []
    end = 0
    for slot, terms in zip(bucket.slots, places, strict=True):
        parts += _gap(slot.offset - end, bucket, device)
        parts.append(fold(torch.add, terms).reshape(-1))
        end = slot.offset + slot.numel
    return torch.cat([*parts, *_gap(bucket.size - end, bucket, device)])


def _gap(size: int, bucket: Bucket, device: str | torch.device) -> list[Tensor]:
    return [torch.zeros(size, dtype=bucket.dtype, device=device)] if size else []


def _flatten(i: Flatten, env: Environment) -> None:
    places = [[env[a] for a in leaf] for leaf in i.places]
    name = f"grad.{i.bucket}"
    env.values[name] = flatten(env.bucket(i.bucket), places, env.programs.types[name].device)


def _scale(i: Scale, env: Environment) -> None:
    by = env[i.by].to(env[i.value].dtype) if isinstance(i.by, str) else i.by
    env.values[i.value] = env[i.value] / by


def _squares(i: Squares, env: Environment) -> None:
    grads = {b: _before_norm(i, b, env) for b in i.buckets}
    kind = env.programs.types["squares"]
    env.values["squares"] = squares(env.programs.layout, env.programs.leaf_order, grads, kind)


def _before_norm(i: Squares, name: str, env: Environment) -> Tensor:
    """The gradient of a bucket as the norm reads it."""
    grad = env[f"grad.{name}"]
    if env.optimizer is None or not i.state:
        return grad
    slots = {path: env[n] for n in i.state for path, of in [split_name(n)] if of == name and n.startswith("slot.")}
    grad = _grad(name, env)
    return before_norm(env.optimizer, env.bucket(name), grad, env[f"bucket.{name}"], slots, env["step"], env.scalars)


def _grad(name: str, env: Environment) -> Tensor:
    """The gradient of a bucket in the dtype of its parameters."""
    return env[f"grad.{name}"].to(env[f"bucket.{name}"].dtype)


def _update(i: Update, env: Environment) -> None:
    bucket = env.bucket(i.bucket)
    slots = {p: env[f"slot.{p}.{i.bucket}"] for p in i.slots}
    norm = norm_of(env["squares"], env.programs.leaf_order) if i.needs_norm else None
    if env.optimizer is None:
        raise ProgramError(
            f"the program updates {i.bucket}, but no optimizer was given: pass the one it was lowered with."
        )
    param, slots = updated(
        env.optimizer, bucket, _grad(i.bucket, env), env[f"bucket.{i.bucket}"], slots, env["step"], norm, env.scalars,
        env["key"] if i.key else None,
    )  # fmt: skip
    flags = [env[flag] for flag in i.unless]
    env.values[f"bucket.{i.bucket}"] = unless(flags, env[f"bucket.{i.bucket}"], param)
    kept = {p: unless(flags, env[f"slot.{p}.{i.bucket}"], s) for p, s in slots.items()}
    env.values |= {f"slot.{p}.{i.bucket}": s for p, s in kept.items()}


def _cast(i: Cast, env: Environment) -> None:
    env.values[i.out] = env[i.value].to(env.programs.types[i.out].dtype)


def _overflow(i: Overflow, env: Environment) -> None:
    env.values["overflow"] = overflow([env[name] for name in i.reads], env.programs.types["overflow"].device)


def _rescale(i: Rescale, env: Environment) -> None:
    skipped = env["overflow"] != 0
    env.values |= {"result.loss_scale": env["scale.value"].clone(), "result.skipped": skipped}
    value, good = rescaled(env["scale.value"], env["scale.good"], skipped, i.factor, i.window)
    env.values |= {"scale.value": value, "scale.good": good}


def _choose(i: Choose, env: Environment) -> None:
    env.values[i.out] = unless([env[flag] for flag in i.unless], env[i.old], env[i.new])


def _store(i: Store, env: Environment) -> None:
    env.values[f"leaf.{i.leaf}"] = env[i.value]


def reduced(kind: str, values: list[Tensor]) -> Tensor:
    """The values of all microbatches combined; `weight` is a sum in float64."""
    if kind == "weight":
        return combine("sum", [v.to(torch.float64) for v in values])
    return combine(kind, values)  # type: ignore[arg-type]


def _reduce(i: Reduce, env: Environment) -> None:
    env.values[i.out] = reduced(i.kind, [env[v] for v in i.values])


def _constant(i: Constant, env: Environment) -> None:
    kind = env.programs.types[i.out]
    env.values[i.out] = torch.full((), i.number, dtype=kind.dtype, device=kind.device)


def _free(i: Free, env: Environment) -> None:
    for name in i.values:
        del env.values[name]


_MEANING: dict[type, Callable[[Any, Environment], None]] = {
    Microbatch: _microbatch,
    Keys: _keys,
    Run: _run,
    Overlap: _overlap,
    Zero: _zero,
    Accumulate: _accumulate,
    Flatten: _flatten,
    Scale: _scale,
    Squares: _squares,
    Update: _update,
    Cast: _cast,
    Overflow: _overflow,
    Rescale: _rescale,
    Choose: _choose,
    Store: _store,
    Reduce: _reduce,
    Constant: _constant,
    Free: _free,
}
