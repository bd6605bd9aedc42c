import pytest

from tests.benchmarks import optimizers


@pytest.mark.parametrize("name", optimizers.OURS)
def test_ours_and_torchs_compute_the_same(name):
    """Small, without a compiler: what is timed is the same computation."""
    words = ["--only", name, "--pairs", "1", "--layers", "1", "--width", "8", "--backend", "interpret", "--no-compile"]
    first, second = optimizers.lines(name, optimizers.parse(words))
    assert first.startswith(f"{name}: ")
    assert "eager: " in second


def test_another_computation_is_found():
    leaves = optimizers.leaves_of(1, 4)
    assert optimizers.apart(leaves, leaves) == 0
    assert optimizers.apart(leaves, {n: 2 * leaf for n, leaf in leaves.items()}) == pytest.approx(0.5)
