"""The engine that runs one compiled step with a clock."""

from dataclasses import replace

import pytest
import torch

from funpipe._errors import BatchError
from funpipe.runtime.profiling.measure import engine_of
from tests.api.models import batch_of, params_of, step_of


@pytest.fixture(scope="module")
def compiled():
    return step_of().trace(params_of(), batch_of()).lower().compile()


def test_it_knows_that_step_alone(compiled):
    engine = engine_of(compiled, batch_of())
    assert list(engine.compiled.values()) == [compiled] and engine.lowered is compiled.lowered


def test_it_runs_where_the_step_does(compiled):
    """The first value of a state is on the host, wherever the others are: the count of steps."""
    second = torch.device("cuda", 1)
    origin = replace(compiled.lowered.origin, device=second)
    moved = replace(compiled, lowered=replace(compiled.lowered, origin=origin))
    assert engine_of(moved, batch_of()).model.device == second
    assert engine_of(compiled, batch_of()).model.device == torch.device("cpu")


def test_a_batch_of_another_size_is_refused(compiled):
    with pytest.raises(BatchError, match=r"the step was compiled for .*: pass a batch of that size, or use step\.prof"):
        engine_of(compiled, batch_of(16))
