"""The models in JAX are those in torch."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.benchmarks.processes import ROOT

pytestmark = pytest.mark.skipif(find_spec("jax") is None or find_spec("optax") is None, reason="JAX is an extra")


@pytest.fixture(scope="module")
def found():
    command = [sys.executable, "-m", "tests.benchmarks.jax_check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", ["transformer", "mlp", "conv"])
def test_a_model_has_the_same_loss_in_jax(found, kind):
    ours, theirs, _, _ = found[kind]
    assert theirs == pytest.approx(ours, rel=1e-5)


@pytest.mark.parametrize("kind", ["transformer", "mlp", "conv"])
def test_every_weight_arrives(found, kind):
    _, _, ours, theirs = found[kind]
    assert theirs == ours > 0
