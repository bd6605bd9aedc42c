"""What each rank of the launched test runs; in a module of its own, since other processes import it."""

from typing import Any

import torch

import funpipe as fp
from tests.api.transforms import batch_of, net, params_of, plain


def criterion(outputs: torch.Tensor, batch: Any) -> torch.Tensor:
    return (outputs - batch["y"]).square().mean()


def predict(params: Any, batch: Any) -> torch.Tensor:
    return net(params, batch["x"])


def results(**how: Any) -> dict[str, Any]:
    """Derivatives by every way through the pipeline."""
    params, along, batch = params_of(), params_of(7), batch_of()
    how = {"stages": 2, "num_microbatches": 2, "backend": "interpret"} | how
    value, f_jvp = fp.linearize(plain, **how)(params, batch)
    return {
        "jvp": fp.jvp(plain, **how)(params, along, batch),
        "linearize": (value, f_jvp(along)),
        "hvp": fp.hvp(plain, **how)(params, along, batch),
        "ggn_vp": fp.ggn_vp(predict, criterion, **how)(params, along, batch),
    }


def private(rank: int = 0, replicas: int = 1, **how: Any) -> dict[str, torch.Tensor]:
    """The parameters after two private steps with noise on a batch of which each replica has its part."""
    params, batch = params_of(), batch_of()
    rows = 8 // replicas
    mine = {n: t[rank * rows : (rank + 1) * rows] for n, t in batch.items()}
    noise = fp.optim.add_noise(noise_multiplier=0.5, max_norm=0.7, batch_size=8, key=3)
    optimizer = fp.optim.chain(noise, fp.optim.sgd(0.5, momentum=0.9))
    how = {"stages": 2, "num_microbatches": 2, "backend": "interpret"} | how
    step = fp.private_step(plain, optimizer, max_norm=0.7, **how)
    state = step.init(params, mine)
    for _ in range(2):
        state, _ = step(state, mine)
    return step.gather(state)[0]


def two_ranks() -> dict[str, Any]:
    pipeline = fp.mesh(pp=2)
    found = results(mesh=pipeline) | {"private": private(mesh=pipeline), "states": _bytes_of_states(pipeline)}
    replicas = fp.mesh(pp=1, dp=2)
    return found | {"replicas": private(replicas.dp_rank, 2, mesh=replicas, stages=1)}


def _bytes_of_states(mesh: Any) -> int:
    """The bytes of tangents that this rank's program of a Hessian-vector product takes."""
    from funpipe._api.tangents import with_tangents
    from funpipe.functional.tangents import directional

    step = fp.train_step(
        directional(plain), fp.optim.sgd(0.1), mesh=mesh, stages=2, num_microbatches=2, backend="interpret"
    )
    state = step.init(with_tangents(params_of(), params_of(7)), batch_of())
    return sum(value.nbytes for name, value in state.values.items() if name.startswith("leaf.tangents."))
