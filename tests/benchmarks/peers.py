"""What funpipe is measured against on some number of ranks."""

import os
from functools import partial
from importlib.util import find_spec

from tests.benchmarks import peers_pipelining, peers_single
from tests.benchmarks.cases import Case
from tests.benchmarks.models import Chain
from tests.benchmarks.steps import Peer

# One thread in XLA's kernels, and no memory of the GPU taken in advance; read when JAX is imported.
ENVIRONMENT = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


def peers_of(case: Case, model: Chain, ranks: int, device: str) -> list[Peer]:
    """The peers of a case."""
    if ranks > 1:
        return peers_pipelining.peers(case, model)
    return [*peers_single.peers(case, model, device), *jax_peers(case, model, device)]


def jax_peers(case: Case, model: Chain, device: str) -> list[Peer]:
    """JAX with the whole step in one jit; none, with a word, where it is not installed or has no such device."""
    if find_spec("jax") is None or find_spec("optax") is None:
        print("JAX is left out: it is not installed; pip install -e '.[bench]' adds it")
        return []
    os.environ.update(ENVIRONMENT)
    from tests.benchmarks import peers_jax  # an extra, and it reads the environment when it is imported

    if device == "cuda" and not peers_jax.has_gpu():
        print("JAX is left out: it has no GPU; install jax[cuda12] beside it")
        return []
    names = {"JAX jit, whole batch": False, "JAX jit, scanned microbatches": True}
    return [Peer(n, partial(peers_jax.loop, case, model, device, scan), "JAX jit") for n, scan in names.items()]
