"""What a plan is for: the number of devices, what one of them can do, and what connects them."""

from dataclasses import dataclass, field
from math import inf, isfinite

from funpipe._errors import FunpipeTypeError, PlanError

OPERATIONS = 200
"""Floating-point operations in the time of one byte of memory traffic, where nothing is said."""


@dataclass(frozen=True)
class Link:
    """What one device sends with: a message of n bytes takes `latency + n / bandwidth`.

    Args:
        bandwidth: bytes per second of one device, in each direction.
        latency: seconds from a send to the arrival of the first byte.

    Example:
        >>> Link(bandwidth=1e9, latency=1e-5).time(1_000_000)
        0.00101
    """

    bandwidth: float = inf
    latency: float = 0.0

    def __post_init__(self) -> None:
        _require("bandwidth of a link", self.bandwidth, positive=True, finite=False)
        _require("latency of a link", self.latency, positive=False)

    def time(self, nbytes: float) -> float:
        """The time of one message, in seconds."""
        return self.latency + nbytes / self.bandwidth


@dataclass(frozen=True)
class Links:
    """The links of a cluster: inside a node and between nodes.

    Pipeline ranks are numbered as `funpipe.mesh` numbers them: those of one pipeline are neighbours, and devices 0 to
    `node - 1` share a node.

    Args:
        inside: between two devices of a node; a number is its bandwidth in bytes per second.
        between: between two devices of different nodes, for each device; None: as inside.
        node: devices of a node.
        reduction: what sums between replicas use in place of both; None: the slowest link on their ring.
        overlap: whether devices compute while a message is under way; processors that copy it themselves do not.

    Example:
        >>> links = Links(inside=400e9, between=50e9, node=8)
        >>> links.of((0, 7)).bandwidth, links.of((7, 8)).bandwidth
        (400000000000.0, 50000000000.0)
    """

    inside: Link | float = field(default_factory=Link)
    between: Link | float | None = None
    node: int = 8
    reduction: Link | float | None = None
    overlap: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.node, int) or isinstance(self.node, bool) or self.node < 1:
            raise PlanError(f"a node of {self.node!r} devices; pass an int of at least 1.")
        if not isinstance(self.overlap, bool):
            raise FunpipeTypeError(f"overlap of links is {self.overlap!r}; pass True or False.")
        object.__setattr__(self, "inside", as_link(self.inside))
        object.__setattr__(self, "between", self.inside if self.between is None else as_link(self.between))
        object.__setattr__(self, "reduction", None if self.reduction is None else as_link(self.reduction))

    def of(self, devices: tuple[int, ...]) -> Link:
        """The slowest link that a message or a ring between these devices goes through.

        Args:
            devices: their numbers.
        """
        nodes = {device // self.node for device in devices}
        return as_link(self.inside if len(nodes) == 1 or self.between is None else self.between)

    def ring(self, devices: tuple[int, ...]) -> Link:
        """The link that sums between replicas go through.

        Args:
            devices: the same pipeline rank of each replica.
        """
        return self.of(devices) if self.reduction is None else as_link(self.reduction)


@dataclass(frozen=True)
class Cluster:
    """The devices that a plan is made for; all alike.

    Args:
        devices: how many.
        flops: floating-point operations per second that a device reaches; about half of its peak for large products.
        memory: bytes of a device that training may use.
        links: what connects the devices; a number is the bandwidth of every link, in bytes per second.
        bandwidth: bytes per second between a device and its memory; None: a byte takes as long as 200 operations, about
            as on devices for training (153 on an A100, 295 on an H100, for bfloat16).
        overhead: seconds of a step that are no task, message, sum or update: the host's.

    Raises:
        PlanError: a number that cannot be.

    Example:
        >>> Cluster(devices=2, flops=1e12, memory=16e9, links=1e9).links.inside
        Link(bandwidth=1000000000.0, latency=0.0)
    """

    devices: int
    flops: float
    memory: float
    links: Links | Link | float = field(default_factory=Links)
    bandwidth: float | None = None
    overhead: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.devices, int) or isinstance(self.devices, bool) or self.devices < 1:
            raise PlanError(f"a cluster of {self.devices!r} devices; pass an int of at least 1.")
        _require("flops", self.flops, positive=True)
        _require("memory", self.memory, positive=True)
        if self.bandwidth is None:
            object.__setattr__(self, "bandwidth", self.flops / OPERATIONS)
        _require("bandwidth", self.traffic, positive=True, finite=False)
        _require("overhead", self.overhead, positive=False)
        if not isinstance(self.links, Links):
            object.__setattr__(self, "links", Links(as_link(self.links)))

    @property
    def traffic(self) -> float:
        """The bandwidth, whatever was passed for it."""
        assert self.bandwidth is not None
        return self.bandwidth

    @property
    def wiring(self) -> Links:
        """The links, whatever was passed for them."""
        assert isinstance(self.links, Links)
        return self.links


def as_link(link: Link | float) -> Link:
    """A link from its bandwidth."""
    return link if isinstance(link, Link) else Link(link)


def _require(name: str, value: float, positive: bool, finite: bool = True) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise FunpipeTypeError(f"the {name} is {value!r}, of type {type(value).__name__}; pass a number.")
    if value != value or value < 0 or (positive and value == 0) or (finite and not isfinite(value)):
        raise PlanError(
            f"the {name} is {value!r}; pass a {'finite ' * finite}number {'above' if positive else 'from'} 0."
        )
