"""Two gloo processes with other batches on each: pure steps with collectives against torch's own data parallel."""

import pytest
import torch

from funpipe.runtime import launch
from tests.api import pure_steps


@pytest.fixture(scope="module")
def found():
    return launch(pure_steps.compare, 2, timeout=120)


def test_the_mean_of_the_gradients_is_data_parallel_to_the_bit(found):
    for rank in found:
        torch.testing.assert_close(rank["plain"][0], rank["ddp sgd"], rtol=0, atol=0)


def test_results_are_the_same_on_all_ranks(found):
    (first, second) = (rank["plain"][1]["loss"] for rank in found)
    assert torch.equal(first, second)


def test_with_an_optimizer(found):
    for rank in found:
        torch.testing.assert_close(rank["adam"], rank["ddp adam"], rtol=1e-5, atol=1e-6)


def test_sharded_parameters(found):
    whole = {n: torch.cat([rank["sharded"][n] for rank in found]) for n in found[0]["sharded"]}
    torch.testing.assert_close(whole, found[0]["adam"], rtol=1e-6, atol=1e-7)
    for rank in found:
        torch.testing.assert_close(rank["unsharded"], whole, rtol=0, atol=0)


def test_the_ranks_saw_other_batches(found):
    """One rank alone ends elsewhere: the comparison can tell a mean from one rank's gradient."""
    alone = pure_steps.start()
    for batch in pure_steps.batches(0):
        grads = torch.func.grad(pure_steps.loss)(alone, batch)
        alone = {n: p - pure_steps.RATE * grads[n] for n, p in alone.items()}
    assert max((alone[n] - p).abs().max() for n, p in found[0]["ddp sgd"].items()) > 1e-3


@pytest.mark.full
def test_a_compiled_step_is_data_parallel():
    for compiled, by_torch in launch(pure_steps.compare_compiled, 2, timeout=120):
        torch.testing.assert_close(compiled, by_torch, rtol=1e-6, atol=1e-6)
