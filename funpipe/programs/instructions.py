"""The instructions of a program: frozen values over named tensors.

Names of values: `param.NAME`, `leaf.NAME` (a parameter outside the buckets), `bucket.NAME`, `slot.PATH.NAME`
(`slot.PATH:LEAF.NAME` where an update reads whole leaves),
`buffer.NAME`, `batch.NAME`, `const.NAME` and `step` are there when a step begins; `NAME@i` is a value of microbatch i;
`acc.NAME.k` is the accumulator of the k-th place that uses a leaf; `grad.BUCKET`, `weight`, `squares`, `overflow` and
`result.NAME` belong to the end of the step. Where a precision policy has it so, `cast.DTYPE.BUCKET` is a bucket in the
dtype that regions read, `master.NAME` a parameter as it is kept, and `scale.NAME` what the loss is multiplied by.
Where a model draws, `key` and the number `replica` are there when a step begins, and `random.NAME@i` is a draw's key.

Blocking: `Send` starts a transfer and does not block; `WaitSend` blocks until the peer has executed its `PostRecv`;
`PostRecv` never blocks; `WaitRecv` blocks until the peer has executed its `Send`; collectives block until every rank of
their group has reached them.
"""

from dataclasses import dataclass
from typing import Literal

Group = Literal["dp", "pp", "world"]


@dataclass(frozen=True)
class Microbatch:
    """Takes the slice `index` of batch leaves; each becomes `batch.NAME@index`."""

    index: int
    leaves: tuple[str, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """The values read."""
        return tuple(f"batch.{n}" for n in self.leaves)

    @property
    def writes(self) -> tuple[str, ...]:
        """The values made."""
        return tuple(f"batch.{n}@{self.index}" for n in self.leaves)


@dataclass(frozen=True)
class Keys:
    """Makes the keys of all draws of a step, of every microbatch: a draw's is a view of `keys`, `random.NAME@i`."""

    names: tuple[str, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """The key of the training, the step, and the number of the replica."""
        return ("key", "step", "replica")

    @property
    def writes(self) -> tuple[str, ...]:
        """The keys."""
        return ("keys",)


@dataclass(frozen=True)
class Run:
    """Runs a region for one microbatch."""

    region: str
    microbatch: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """Runs two regions that do not wait for each other, in any order or interleaved: a forward and a backward."""

    first: Run
    second: Run

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that either reads."""
        return tuple(dict.fromkeys((*self.first.reads, *self.second.reads)))

    @property
    def writes(self) -> tuple[str, ...]:
        """The values made."""
        return (*self.first.writes, *self.second.writes)


@dataclass(frozen=True)
class Zero:
    """Makes accumulators of zeros."""

    writes: tuple[str, ...]
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Accumulate:
    """Adds each value to its accumulator, in place; names what is written as read too."""

    accumulators: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """The values read."""
        return (*self.accumulators, *self.values)

    @property
    def writes(self) -> tuple[str, ...]:
        """Nothing new: the accumulators are overwritten."""
        return ()


@dataclass(frozen=True)
class Send:
    """Starts to send a value."""

    message: int
    value: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The value."""
        return (self.value,)

    @property
    def writes(self) -> tuple[str, ...]:
        """Nothing."""
        return ()


@dataclass(frozen=True)
class WaitSend:
    """Waits until a sent value may be freed."""

    message: int
    value: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The value."""
        return (self.value,)

    @property
    def writes(self) -> tuple[str, ...]:
        """Nothing."""
        return ()


@dataclass(frozen=True)
class PostRecv:
    """Makes the buffer of a message and starts to receive into it."""

    message: int
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


@dataclass(frozen=True)
class WaitRecv:
    """Waits for a message; its buffer becomes a value."""

    message: int
    value: str
    reads: tuple[str, ...] = ()

    @property
    def writes(self) -> tuple[str, ...]:
        """The value."""
        return (self.value,)


@dataclass(frozen=True)
class Flatten:
    """Adds the places of each leaf of a bucket, once and in trace order, and lays the sums out as `grad.BUCKET`."""

    bucket: str
    places: tuple[tuple[str, ...], ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """The accumulators."""
        return tuple(a for leaf in self.places for a in leaf)

    @property
    def writes(self) -> tuple[str, ...]:
        """The bucket's gradient."""
        return (f"grad.{self.bucket}",)


@dataclass(frozen=True)
class AllReduce:
    """Sums a value in place over a group of ranks."""

    value: str
    group: Group

    @property
    def reads(self) -> tuple[str, ...]:
        """The value."""
        return (self.value,)

    @property
    def writes(self) -> tuple[str, ...]:
        """Nothing new."""
        return ()


@dataclass(frozen=True)
class Scale:
    """Divides a value in place: by a number, or by another value (`weight`)."""

    value: str
    by: int | str

    @property
    def reads(self) -> tuple[str, ...]:
        """The value, and what it is divided by."""
        return (self.value, self.by) if isinstance(self.by, str) else (self.value,)

    @property
    def writes(self) -> tuple[str, ...]:
        """Nothing new."""
        return ()


@dataclass(frozen=True)
class Squares:
    """The sum of squares of each leaf's gradient, in tree order over the whole model; zero for other ranks' leaves.

    `state` is what it reads besides, where the norm is that of something made of gradients and state.
    """

    buckets: tuple[str, ...]
    state: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The buckets' gradients, and state."""
        return (*(f"grad.{b}" for b in self.buckets), *self.state)

    @property
    def writes(self) -> tuple[str, ...]:
        """The vector."""
        return ("squares",)


@dataclass(frozen=True)
class Update:
    """The optimizer's update of one bucket: parameters and slots are overwritten, unless one of some flags is set."""

    bucket: str
    slots: tuple[str, ...]
    needs_norm: bool = False
    unless: tuple[str, ...] = ()
    key: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Gradient, parameters, slots, the step, the squares of the norm, the flags, and the key if it draws."""
        own = (f"grad.{self.bucket}", f"bucket.{self.bucket}", "step")
        slots = tuple(f"slot.{s}.{self.bucket}" for s in self.slots)
        return (*own, *slots, *(("squares",) if self.needs_norm else ()), *self.unless, *self.key)

    @property
    def writes(self) -> tuple[str, ...]:
        """Nothing new: the state is overwritten."""
        return ()


@dataclass(frozen=True)
class Cast:
    """Makes a value in the dtype that the programs give the new one."""

    value: str
    out: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The value."""
        return (self.value,)

    @property
    def writes(self) -> tuple[str, ...]:
        """The value in another dtype."""
        return (self.out,)


@dataclass(frozen=True)
class Overflow:
    """How many buckets' gradients are not finite everywhere."""

    buckets: tuple[str, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """The buckets' gradients."""
        return tuple(f"grad.{b}" for b in self.buckets)

    @property
    def writes(self) -> tuple[str, ...]:
        """The number."""
        return ("overflow",)


@dataclass(frozen=True)
class Rescale:
    """The scale of the loss after a step, in place: by `factor` lower after an overflow, higher after `window` steps.

    The scale of this step, and whether it is skipped, are results.
    """

    factor: float
    window: int

    @property
    def reads(self) -> tuple[str, ...]:
        """The scale, its count of good steps, and the overflow."""
        return ("scale.value", "scale.good", "overflow")

    @property
    def writes(self) -> tuple[str, ...]:
        """The results."""
        return ("result.loss_scale", "result.skipped")


@dataclass(frozen=True)
class Choose:
    """Makes a value: the new one, or the old one if one of some flags is set."""

    out: str
    old: str
    new: str
    unless: tuple[str, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """Both values and the flags."""
        return (self.old, self.new, *self.unless)

    @property
    def writes(self) -> tuple[str, ...]:
        """The chosen value."""
        return (self.out,)


@dataclass(frozen=True)
class Store:
    """Overwrites a leaf outside the buckets (a copy of a tied leaf) with a value."""

    leaf: str
    value: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The leaf and the value."""
        return (f"leaf.{self.leaf}", self.value)

    @property
    def writes(self) -> tuple[str, ...]:
        """Nothing new."""
        return ()


@dataclass(frozen=True)
class Reduce:
    """Combines a value of all microbatches, in order: a loss, a weight, an auxiliary value."""

    kind: str
    values: tuple[str, ...]
    out: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The values."""
        return self.values

    @property
    def writes(self) -> tuple[str, ...]:
        """The result."""
        return (self.out,)


@dataclass(frozen=True)
class Constant:
    """Makes a 0-dim tensor of a number."""

    out: str
    number: float
    reads: tuple[str, ...] = ()

    @property
    def writes(self) -> tuple[str, ...]:
        """The tensor."""
        return (self.out,)


@dataclass(frozen=True)
class Free:
    """Forgets values that nothing reads any more."""

    values: tuple[str, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """The values."""
        return self.values

    @property
    def writes(self) -> tuple[str, ...]:
        """Nothing."""
        return ()


Instruction = (
    Microbatch
    | Keys
    | Run
    | Overlap
    | Zero
    | Accumulate
    | Send
    | WaitSend
    | PostRecv
    | WaitRecv
    | Flatten
    | AllReduce
    | Scale
    | Squares
    | Update
    | Cast
    | Overflow
    | Rescale
    | Choose
    | Store
    | Reduce
    | Constant
    | Free
)


def runs_of(instruction: Instruction) -> tuple[Run, ...]:
    """The runs of regions that an instruction stands for: one, two that overlap, or none."""
    if isinstance(instruction, Overlap):
        return (instruction.first, instruction.second)
    return (instruction,) if isinstance(instruction, Run) else ()
