"""The end of a rank's step: tied leaves, replicas, scaling, the norm, the updates and the results."""

from funpipe.optim import Optimizer
from funpipe.programs.instructions import (
    AllReduce,
    Choose,
    Constant,
    Flatten,
    Instruction,
    Overflow,
    PostRecv,
    Reduce,
    Rescale,
    Scale,
    Send,
    Squares,
    Store,
    Update,
    WaitRecv,
    WaitSend,
)
from funpipe.programs.layout import Bucket
from funpipe.programs.outline import EACH
from funpipe.programs.shared import Shared
from funpipe.programs.slot_values import slot_types
from funpipe.stages.stage import Stage


class Tail:
    """Writes what follows a rank's last task.

    Args:
        shared: what all ranks share.
        rank: the rank.
        stages: those placed on it.
        buffers: the last version of each buffer that was updated, by stage and name.
    """

    def __init__(
        self, shared: Shared, rank: int, stages: tuple[Stage, ...], buffers: dict[tuple[int, str], str]
    ) -> None:
        self.shared, self.rank, self.stages = shared, rank, stages
        self.source = shared.source
        self.outputs: dict[str, str] = {f"buffer.{leaf}": value for (_, leaf), value in buffers.items()}
        trained = shared.differentiates
        self.buckets = [b for s in stages for b in shared.layout.of_stage(s.index)]
        self.slots: dict[str, tuple[str, ...]] = {b.name: self._slots(b) for b in self.buckets}
        self.trained = trained

    def write(self, out: list[Instruction]) -> None:
        """Appends the instructions."""
        if self.trained:
            self._collect_places(out)
            self._gradients(out)
            self._update(out)
        self._mean_buffers(out)
        if self.trained and self.source.skips:
            self._keep_buffers(out)
        self._results(out)
        sends = [i for i in out if isinstance(i, Send)]
        out += [WaitSend(s.message, s.value) for s in sends]

    def _slots(self, bucket: Bucket) -> tuple[str, ...]:
        """The optimizer's slots of a bucket, by their path (`m`, or `1.m` in a chain), and maybe a leaf behind it."""
        if self.source.optimizer is None:
            return ()
        kinds = slot_types(self.source.optimizer, bucket, self.shared.types[f"bucket.{bucket.name}"].device)
        self.shared.types.update({f"slot.{p}.{bucket.name}": kind for p, kind in kinds.items()})
        return tuple(kinds)

    def _collect_places(self, out: list[Instruction]) -> None:
        """Accumulators of leaves that several ranks use go to the leaf's owner."""
        for leaf, home, places in self._tied():
            for k, rank in places:
                name = f"acc.{leaf}.{k}"
                if rank != home:
                    self._transfer(out, name, name, rank, home, f"{rank}->{home} gradient of {leaf}")

    def _tied(self) -> list[tuple[str, int, list[tuple[int, int]]]]:
        """For each trained leaf: its name, its owner's rank, and the rank of each of its places."""
        found = []
        for bucket in self.shared.layout.buckets:
            for slot in bucket.slots:
                places = [
                    (k, self.shared.placement(s.index))
                    for s in self.source.stages
                    for k, _ in s.terms.get(slot.leaf, ())
                ]
                found.append((slot.leaf, self.shared.placement(bucket.stage), sorted(places)))
        return found

    def _transfer(self, out: list[Instruction], value: str, arrives: str, src: int, dst: int, label: str) -> None:
        if self.rank not in (src, dst):
            return
        message = self.shared.message(value, src, dst, label)
        out += [Send(message, value)] if self.rank == src else [PostRecv(message), WaitRecv(message, arrives)]

    def _gradients(self, out: list[Instruction]) -> None:
        counts = self.source.outline.places
        for bucket in self.buckets:
            places = tuple(tuple(f"acc.{s.leaf}.{k}" for k in range(counts[s.leaf])) for s in bucket.slots)
            out.append(Flatten(bucket.name, places))
            if self.source.mesh.dp > 1:
                out.append(AllReduce(f"grad.{bucket.name}", "dp"))
        self._weight(out)
        by = "weight" if self.source.outline.weighted else self.source.divisor
        out += [Scale(f"grad.{b.name}", by) for b in self.buckets if by is not None]
        out += [Scale(f"grad.{b.name}", "scale.value") for b in self.buckets if self.source.scale is not None]

    def _weight(self, out: list[Instruction]) -> None:
        """The weight of the global batch, on every rank: this one's share, summed over all."""
        if not self.source.outline.weighted:
            return
        mine = [s.results["weight"] for s in self.stages if "weight" in s.results]
        out.append(Reduce("weight", self._of_all(mine[0]), "weight") if mine else Constant("weight", 0.0))
        if self.source.mesh.pp * self.source.mesh.dp > 1:
            out.append(AllReduce("weight", "world"))

    def _of_all(self, value: str) -> tuple[str, ...]:
        return tuple(f"{value}@{i}" for i in range(self.source.table.num_microbatches))

    def _update(self, out: list[Instruction]) -> None:
        optimizer = self.source.optimizer
        if optimizer is None:
            self.outputs |= {f"grad.{b.name}": f"grad.{b.name}" for b in self.buckets}
            return
        if optimizer.needs_norm:
            out.append(Squares(tuple(b.name for b in self.buckets), self._before_norm(optimizer)))
            if self.source.mesh.pp > 1:
                out.append(AllReduce("squares", "pp"))
        flags = self._overflow(out)
        key = ("key",) if optimizer.needs_key and self.source.keyed else ()
        out += [Update(b.name, self.slots[b.name], optimizer.needs_norm, flags, key) for b in self.buckets]
        self._return_tied(out)

    def _overflow(self, out: list[Instruction]) -> tuple[str, ...]:
        """Agrees with all ranks whether the step is skipped; the flags that say so."""
        scale = self.source.scale
        if scale is None:
            return ()
        out.append(Overflow(tuple(b.name for b in self.buckets)))
        if self.source.mesh.pp * self.source.mesh.dp > 1:
            out.append(AllReduce("overflow", "world"))
        out.append(Rescale(scale.factor, scale.window))
        for name in ("loss_scale", "skipped"):
            self.shared.reducers[name] = "max"
            self.outputs[name] = f"result.{name}"
        return ("overflow",)

    def _keep_buffers(self, out: list[Instruction]) -> None:
        """A skipped step leaves buffers as they were."""
        for name, value in self.outputs.items():
            if name.startswith("buffer."):
                out.append(Choose(f"kept.{name}", name, value, ("overflow",)))
                self.outputs[name] = f"kept.{name}"

    def _before_norm(self, optimizer: Optimizer) -> tuple[str, ...]:
        """What the norm reads besides the gradients, where it is not their own."""
        if optimizer.before_norm is None or not self.buckets:
            return ()
        slots = (f"slot.{path}.{b.name}" for b in self.buckets for path in self.slots[b.name])
        return (*(f"bucket.{b.name}" for b in self.buckets), *slots, "step")

    def _return_tied(self, out: list[Instruction]) -> None:
        """The owner's updated leaf goes to every other rank that holds a copy."""
        for leaf, home, _ in self._tied():
            stages = self.shared.layout.loose.get(leaf, ())
            for rank in dict.fromkeys(self.shared.placement(s) for s in stages):
                if rank != home:
                    kind = "master" if leaf in self.shared.layout.casts else "param"
                    self._transfer(out, f"{kind}.{leaf}", f"tied.{leaf}", home, rank, f"{home}->{rank} tied {leaf}")
                    if rank == self.rank:
                        out.append(Store(leaf, f"tied.{leaf}"))

    def _mean_buffers(self, out: list[Instruction]) -> None:
        if not self.source.mean_buffers or self.source.mesh.dp == 1:
            return
        for name, value in self.outputs.items():
            if name.startswith("buffer.") and self.shared.types[value].dtype.is_floating_point:
                out += [AllReduce(value, "dp"), Scale(value, self.source.mesh.dp)]

    def _results(self, out: list[Instruction]) -> None:
        for stage in self.stages:
            for name, value in stage.results.items():
                if not name.startswith("buffer."):
                    self._result(out, name, value, self.source.outline.results[name].reducer)

    def _result(self, out: list[Instruction], name: str, value: str, reducer: str) -> None:
        if reducer == EACH:
            self.outputs |= {f"{name}@{i}": of_one for i, of_one in enumerate(self._of_all(value))}
            return
        self.shared.reducers[name] = reducer
        out.append(Reduce(reducer, self._of_all(value), f"result.{name}"))
        self.outputs[name] = f"result.{name}"
