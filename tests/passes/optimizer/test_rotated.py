"""The same passes on a rotated step, some of whose updates run in the next iteration."""

import pytest
import torch

import funpipe as fp
from funpipe.passes import compose, donate, expand_updates, fuse_updates, split_updates, updates
from tests.passes.optimizer.steps import OPTIMIZERS, assert_same_bits, draw, initial, step_of, trained

LATE = "leaf2"


def rotated(step):
    return fp.rotate(split_updates(lambda leaf: leaf)(step), defer=updates([f"params.{LATE}"]))


@pytest.mark.parametrize(
    "passes", [(), (fuse_updates(),), (expand_updates(),)], ids=["as it is", "fused", "written out"]
)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_bits_stay(passes, count):
    step, batches = step_of("adamw"), [draw(i + 1) for i in range(count)]
    made = rotated(step).map(compose(*passes, donate()))
    pending = made.init(initial(OPTIMIZERS["adamw"], draw(0)))
    for batch in batches:
        pending, _ = made.step(pending, batch)
    found = made.flush(pending).state
    plain = compose(*passes)(step) if passes else step
    expected = trained(plain, initial(OPTIMIZERS["adamw"], draw(0)), batches)
    assert_same_bits(found["params"], expected["params"])
    assert_same_bits(found["opt"], expected["opt"])
    assert torch.equal(found["step"], expected["step"])
