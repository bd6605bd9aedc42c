"""Backwards in two parts, and beside forwards, in every backend; each test here compiles."""

import pytest

from funpipe.schedules import Table
from tests.api.models import batches, largest_error, largest_loss_error, params_of, same_bits, step_of, trained

HEAD = "stage -> rank: 0 0; microbatches: 4\nrank 0 | "
APART = Table.parse(f"{HEAD}0F0 1F0 0F1 1B0 0B0 1F1 0F2 1B1 0B1 1F2 0F3 1B2 0B2 1F3 1B3 0B3")
AT_ONCE = Table.parse(f"{HEAD}0F0 1F0 0F1&1B0 0B0 1F1 0F2&1B1 0B1 1F2 0F3&1B2 0B2 1F3 1B3 0B3")

RUNS = {
    "interpret": {"backend": "interpret", "schedule": "1f1b"},
    "regions": {"backend": "regions", "schedule": "zb-h1"},
    "zb-h1": {"backend": "step", "schedule": "zb-h1"},
    "zb-h2": {"backend": "step", "schedule": "zb-h2"},
    "interpreted zb-h1": {"backend": "interpret", "schedule": "zb-h1"},
    "at once": {"backend": "step", "schedule": AT_ONCE},
    "apart": {"backend": "step", "schedule": APART},
}


@pytest.fixture(scope="module")
def found():
    """The losses and the parameters after three steps of each."""
    results = {}
    for name, options in RUNS.items():
        step = step_of(num_microbatches=4, stages=2, **options)
        state, losses = trained(step, params_of(), batches(3))
        results[name] = losses, step.gather(state)[0]
    return results


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("interpret", "interpreted zb-h1"),
        ("zb-h1", "zb-h2"),
        ("at once", "apart"),
    ],
)
def test_schedules_that_call_the_same_regions_give_the_same_bits(found, one, other):
    assert same_bits(found[one], found[other])


@pytest.mark.parametrize("name", [name for name, options in RUNS.items() if options["backend"] != "interpret"])
def test_a_compiled_backend_is_close_to_the_interpreter(found, name):
    losses, params = found[name]
    assert largest_loss_error(losses, found["interpret"][0]) < 1e-6
    assert largest_error(params, found["interpret"][1]) < 1e-5
