"""`torchrun --nnodes 2` trains as one machine does: two network namespaces stand for two machines.

    namespace a  10.77.0.1 ── veth pair ── 10.77.0.2  namespace b

Neither sees the loopback device of the other: whatever took an address of its own machine for one of both would fail.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader

import funpipe as fp

ROOT = Path(__file__).resolve().parent.parent
SMALL = "--steps 12 --width 32 --layers 2 --context 32 --batch-size 16 --microbatches 4 --sample-bytes 60".split()
SECONDS = 600

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="network namespaces need root: run with sudo"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="network namespaces need `ip`: apt-get install iproute2"),
]


def ip(command: str) -> None:
    """One command of iproute2; its own words where it fails."""
    done = subprocess.run(["ip", *command.split()], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {command}: {done.stderr.strip()}")


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Two namespaces by name, each with the address of its end of the cable."""
    names = [f"fp{os.getpid()}{end}" for end in "ab"]
    with ExitStack() as stack:
        try:
            for name in names:
                ip(f"netns add {name}")
                stack.callback(ip, f"netns del {name}")  # and with it its end of the cable
            ip(f"link add {names[0]} netns {names[0]} type veth peer name {names[1]} netns {names[1]}")
        except RuntimeError as error:
            pytest.skip(f"this system gives root no network namespaces ({error})")
        addresses = dict(zip(names, ("10.77.0.1", "10.77.0.2"), strict=True))
        for name, address in addresses.items():
            ip(f"-n {name} addr add {address}/24 dev {name}")
            ip(f"-n {name} link set dev {name} up")
            ip(f"-n {name} link set dev lo up")
        yield addresses


def example(folder: Path) -> list[str]:
    return ["examples/train_gpt.py", *SMALL, "--checkpoint", str(folder)]


def environment(**more: str) -> dict[str, str]:
    """One thread, so that both runs add in the same order."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths} | more


def on_one_machine(folder: Path) -> str:
    command = [sys.executable, *example(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def on_two_machines(hosts: dict[str, str], folder: Path) -> str:
    """What the first one prints; the second prints nothing."""
    nodes = [_node(hosts, rank, folder) for rank in range(2)]
    end = time.monotonic() + SECONDS
    try:
        while any(node.poll() is None for node in nodes) and not any(node.poll() for node in nodes):
            assert time.monotonic() < end, _said(folder.parent)
            time.sleep(0.1)
        assert [node.poll() for node in nodes] == [0, 0], _said(folder.parent)
    finally:
        for node in nodes:
            node.terminate()  # torchrun ends its own process with it
            node.wait(60)
    assert (folder.parent / "1.out").read_text() == ""
    return (folder.parent / "0.out").read_text()


def _node(hosts: dict[str, str], rank: int, folder: Path) -> "subprocess.Popen[bytes]":
    name, first = list(hosts)[rank], next(iter(hosts.values()))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    where = ["--node-rank", str(rank), "--master-addr", first, "--master-port", "29533"]
    with open(folder.parent / f"{rank}.out", "wb") as out, open(folder.parent / f"{rank}.err", "wb") as err:
        return subprocess.Popen(
            ["ip", "netns", "exec", name, *torchrun, *where, *example(folder)],
            cwd=ROOT,
            env=environment(GLOO_SOCKET_IFNAME=name),
            stdout=out,
            stderr=err,
        )


def _said(folder: Path) -> str:
    return "\n".join(f"{path.name}:\n{path.read_text()}" for path in sorted(folder.glob("?.*")))


def params_in(folder: Path) -> dict[str, torch.Tensor]:
    """The parameters of a run's last checkpoint."""
    newest = fp.checkpoint.latest(folder)
    assert newest is not None
    assert newest.name == "step-12"
    stored = FileSystemReader(newest).read_metadata().state_dict_metadata
    shapes = {n: kind for n, kind in stored.items() if n.startswith("params.")}
    template = {n.removeprefix("params."): torch.empty(kind.size) for n, kind in shapes.items()}
    return fp.checkpoint.load(newest, {"params": template})["params"]


def test_two_machines_train_as_one_does(hosts, tmp_path):
    one = on_one_machine(tmp_path / "one").replace(str(tmp_path / "one"), "")
    two = on_two_machines(hosts, tmp_path / "two").replace(str(tmp_path / "two"), "")
    assert "held-out loss " in one
    assert two == one
    wanted, found = params_in(tmp_path / "one"), params_in(tmp_path / "two")
    assert len(found) > 10
    assert all(torch.equal(found[name], leaf) for name, leaf in wanted.items())
