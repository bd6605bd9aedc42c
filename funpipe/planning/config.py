"""A file that says what to plan: JSON, or TOML where Python reads it."""

import json
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from funpipe import optim
from funpipe._errors import PlanError
from funpipe.planning.cluster import Cluster, Link, Links
from funpipe.planning.made_by import made_by
from funpipe.planning.plan import plan
from funpipe.planning.plans import Plans

KEYS = ("model", "arguments", "cluster", "global_batch", "optimizer")
CHOICES = ("layers", "schedules", "remat", "shard", "rows", "pp", "top")
CLUSTER = ("devices", "flops", "memory", "bandwidth", "overhead", "links")
LINKS = ("inside", "between", "node", "reduction", "overlap")


def plan_file(path: str | Path) -> Plans:
    """Plans what a file asks for.

    The file names a function that returns the loss function, the parameters and a batch (and the buffers, if it takes
    any); it is called on the meta device, so that a model of any size takes no memory:

        model = "my_package.models:llama"
        arguments = { layers = 5 }
        global_batch = 2048
        layers = 126

        [cluster]
        devices = 16384
        flops = 4e14
        memory = 80e9
        links = { inside = 450e9, between = 50e9, node = 8 }

    Args:
        path: of a `.toml` or `.json` file. `optimizer` is a name in `fp.optim`; `layers`, `schedules`, `remat`,
            `shard`, `rows`, `pp` and `top` are those of `fp.plan`; a link is a bandwidth or `{bandwidth, latency}`.

    Returns:
        The plans.

    Raises:
        PlanError: the file cannot be read, or a key or a name in it is unknown.

    Example:
        >>> import json, sys, tempfile, types
        >>> from pathlib import Path
        >>> import torch
        >>> from funpipe.planning import plan_file
        >>> sys.modules["mine"] = mine = types.ModuleType("mine")
        >>> mine.model = lambda width: (lambda p, x: (x @ p).sum(), torch.empty(width, width), torch.empty(1, width))
        >>> asked = {"model": "mine:model", "arguments": {"width": 64}, "global_batch": 8, "rows": [8]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "plan.json"
        ...     cluster = {"devices": 1, "flops": 1e9, "memory": 1e9}
        ...     _ = path.write_text(json.dumps({**asked, "cluster": cluster}))
        ...     plan_file(path)[0].mesh
        MeshShape(pp=1, dp=1)
    """
    read = _read(Path(path))
    _require(read, (*KEYS, *CHOICES), f"{path}", ("model", "cluster", "global_batch"))
    made = made_by(str(read["model"]), _table("arguments", read.get("arguments", {})))
    choices: dict[str, Any] = {name: read[name] for name in CHOICES if name in read}
    return plan(
        *made[:3],
        buffers=made[3] if len(made) > 3 else None,
        cluster=_cluster(_table("cluster", read["cluster"])),
        global_batch=read["global_batch"],
        optimizer=_optimizer(read.get("optimizer", "adamw")),
        **choices,
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise PlanError(f"there is no file {path}; pass the path of a .toml or .json file.")
    if path.suffix not in (".json", ".toml"):
        raise PlanError(f"{path} is neither .toml nor .json; write the configuration in one of the two.")
    try:
        found = json.loads(path.read_text("utf-8")) if path.suffix == ".json" else _toml(path)
    except PlanError:
        raise
    except (OSError, ValueError) as error:  # ValueError is what both readers raise for text that they cannot read
        raise PlanError(f"{path} cannot be read: {error}. Correct it there.") from error
    if not isinstance(found, dict):
        raise PlanError(f"{path} holds no table of keys; write an object with {', '.join(KEYS)}.")
    return found


def _toml(path: Path) -> dict[str, Any]:
    if find_spec("tomllib") is None:
        raise PlanError(
            f"{path} is TOML, which Python reads from 3.11 on; write the same keys as JSON in a .json file."
        )
    return import_module("tomllib").loads(path.read_text("utf-8"))


def _table(name: str, read: Any) -> Mapping[str, Any]:
    if not isinstance(read, Mapping):
        raise PlanError(f"{name} is {read!r}; write a table of keys.")
    return read


def _cluster(read: Mapping[str, Any]) -> Cluster:
    _require(read, CLUSTER, "cluster", ("devices", "flops", "memory"))
    links = read.get("links", {})
    return Cluster(**{**read, "links": _links(links) if isinstance(links, Mapping) else _number("links", links)})


def _links(read: Mapping[str, Any]) -> Links:
    _require(read, LINKS, "cluster.links", ())
    made: dict[str, Any] = {
        name: value if name in ("node", "overlap") else _link(name, value) for name, value in read.items()
    }
    return Links(**made)


def _link(name: str, read: Any) -> Link:
    if not isinstance(read, Mapping):
        return Link(_number(f"cluster.links.{name}", read))
    _require(read, ("bandwidth", "latency"), f"cluster.links.{name}", ("bandwidth",))
    return Link(**read)


def _number(name: str, value: Any) -> float:
    if not isinstance(value, int | float):
        raise PlanError(f"{name} is {value!r}; write a number of bytes per second.")
    return float(value)


def _optimizer(name: Any) -> optim.Optimizer:
    known = {"adam": optim.adam, "adamw": optim.adamw, "sgd": optim.sgd}
    if not isinstance(name, str) or name not in known:
        raise PlanError(f"optimizer = {name!r} is unknown; use one of {', '.join(known)}.")
    return known[name](1e-3)  # no rate: nothing is trained, only what it keeps is counted


def _require(read: Mapping[str, Any], known: tuple[str, ...], where: str, needed: tuple[str, ...]) -> None:
    for name in read:
        if name not in known:
            raise PlanError(f"{where}: {name!r} is no key; known are {', '.join(known)}.")
    for name in needed:
        if name not in read:
            raise PlanError(f"{where}: {name!r} is missing; add it.")
