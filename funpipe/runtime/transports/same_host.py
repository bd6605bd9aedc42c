"""Which ranks share a host, and the channels between them: opened when a transport is made, by all ranks at once.

    every rank         tells all others a name and a secret, and listens under the name
    each pair          the higher rank connects to the lower one, with the secret
    every rank         tells all others whom it has reached
    each pair          hands the other a descriptor of its memory

A name is one of the network namespace (an abstract Unix socket), and the memory has none: only processes of one machine
that see the same network connect, and nothing is left behind by a process that is killed.
"""

import mmap
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from funpipe._errors import TransportError
from funpipe.runtime.mesh import Mesh
from funpipe.runtime.transports.channel import Channel
from funpipe.runtime.transports.memory import SIZE

T = TypeVar("T")


@dataclass(frozen=True)
class Neighbours:
    """The channels of this rank, and who reaches whom.

    Args:
        channels: by global rank.
        reached: for each global rank the lower ones that it shares a host with.
    """

    channels: dict[int, Channel] = field(default_factory=dict)
    reached: Mapping[int, frozenset[int]] = field(default_factory=dict)

    def all_meet(self, ranks: list[int]) -> bool:
        """Whether there is a channel between any two of several ranks."""
        pairs = combinations(sorted(ranks), 2)
        return bool(self.reached) and all(low in self.reached[high] for low, high in pairs)


def neighbours(mesh: Mesh) -> Neighbours:
    """Opens the channels; collective over all ranks of the mesh.

    Args:
        mesh: the ranks; no channels on GPUs, and none for a rank whose `same_host` is "network".

    Raises:
        TransportError: a rank went away meanwhile.
    """
    if mesh.shape.pp * mesh.shape.dp == 1 or mesh.device.type != "cpu":
        return Neighbours()
    try:
        with _Opening(mesh) as opening:
            return opening.neighbours()
    except OSError as error:
        raise TransportError(
            f"global rank {dist.get_rank()} could not open shared memory with the other ranks of its host ({error}): "
            'look for the first error among the ranks, or use fp.mesh(..., same_host="network").'
        ) from error


class _Opening:
    """What is needed until the channels are open."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.rank = mesh, dist.get_rank()
        self.ranks = dist.get_process_group_ranks(mesh.world)
        self.secret = secrets.token_bytes(16)
        self.name = ""
        self.listener: socket.socket | None = None
        self.memory: int | None = None
        self.made: dict[int, socket.socket] = {}

    def __enter__(self) -> "_Opening":
        if _possible(self.mesh):
            with suppress(OSError, AttributeError):  # where the system has none, or refuses: then the network is used
                self._open()
        return self

    def __exit__(self, *error: object) -> None:
        if self.listener is not None:
            self.listener.close()
        if self.memory is not None:
            os.close(self.memory)

    def _open(self) -> None:
        """Makes this rank's memory, of which each of the others reads its own part, and listens under a name."""
        self.memory = os.memfd_create("funpipe", os.MFD_CLOEXEC)
        os.ftruncate(self.memory, (max(self.ranks) + 1) * SIZE)  # parts that nobody uses take no memory
        self.listener = _unix()
        name = f"funpipe-{secrets.token_hex(16)}"
        self.listener.bind(f"\0{name}")
        self.listener.listen(len(self.ranks))
        self.name = name

    def neighbours(self) -> Neighbours:
        for rank, (name, secret) in self._told((self.name, self.secret)).items():
            if rank < self.rank:
                self._connect(rank, name, secret)
        reached = self._told(frozenset(self.made))
        self._accept({rank for rank in self.ranks if rank > self.rank and self.rank in reached[rank]})
        return Neighbours(self._channels(), reached)

    def _told(self, mine: T) -> dict[int, T]:
        """What each rank says."""
        found: list[T | None] = [None] * len(self.ranks)
        dist.all_gather_object(found, mine, group=self.mesh.world)
        return dict(zip(self.ranks, found, strict=True))  # type: ignore[arg-type]

    def _connect(self, rank: int, name: str, secret: bytes) -> None:
        if not self.name or not name:
            return
        connection = _unix()
        try:
            connection.connect(f"\0{name}")
        except OSError:  # on another host
            connection.close()
            return
        connection.send(secret + self.rank.to_bytes(8, "little"))
        self.made[rank] = connection

    def _accept(self, expected: set[int]) -> None:
        while expected and self.listener is not None:
            self.listener.settimeout(self.mesh.timeout)
            connection, _ = self.listener.accept()
            connection.settimeout(self.mesh.timeout)
            hello = connection.recv(64)
            rank = int.from_bytes(hello[16:], "little")
            if hello[:16] == self.secret and rank in expected:
                self.made[rank] = connection
                expected.remove(rank)
            else:
                connection.close()

    def _channels(self) -> dict[int, Channel]:
        if (mine := self.memory) is None:
            return {}
        for connection in self.made.values():
            connection.settimeout(self.mesh.timeout)
            socket.send_fds(connection, [b"memory"], [mine])
        return {rank: self._channel(rank, made, mine) for rank, made in self.made.items()}

    def _channel(self, rank: int, connection: socket.socket, mine: int) -> Channel:
        _, descriptors, _, _ = socket.recv_fds(connection, 64, 1)
        if not descriptors:
            raise ConnectionResetError(f"global rank {rank} has ended")
        try:
            return Channel(connection, _mapped(mine, rank), _mapped(descriptors[0], self.rank))
        finally:
            os.close(descriptors[0])


def _possible(mesh: Mesh) -> bool:
    return mesh.same_host == "shared memory" and sys.platform == "linux"


def _unix() -> socket.socket:
    """Records stay apart, and come in order."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _mapped(descriptor: int, part: int) -> Tensor:
    """A rank's part of a memory, as bytes."""
    return torch.frombuffer(mmap.mmap(descriptor, SIZE, offset=part * SIZE), dtype=torch.uint8)
