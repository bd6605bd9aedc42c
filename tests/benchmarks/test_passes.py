"""The benchmark of passes, without what takes long: its command line, its comparison, its report."""

import pytest
import torch

from tests.benchmarks.compare import Results
from tests.benchmarks.passes import Measured, exposed_text, parse, require_same_parameters
from tests.benchmarks.replicas import Perceptron
from tests.benchmarks.steps import Peer


class Trained:
    """A step that changes nothing."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self):
        return lambda: 0.0

    def parameters(self):
        return {"0.weight": torch.full((2,), self.value, dtype=torch.float64)}


def test_the_case_is_read_from_the_command_line():
    run = parse(["--layers", "2", "--width", "8", "--pairs", "3", "--delay", "0.5"])
    assert (run.case.layers, run.case.width, run.pairs, run.delay) == (2, 8, 3, 0.5)
    assert parse([]).case == Perceptron()


def test_every_replica_has_a_batch_of_its_own():
    case = Perceptron(4, 2, 3)
    assert torch.equal(case.batch(1)[0], case.batch(1)[0])
    assert not torch.equal(case.batch(0)[0], case.batch(1)[0])


def test_equal_parameters_may_be_timed():
    equal = [Peer("ours", lambda: Trained(1.0)), Peer("theirs", lambda: Trained(1.0 + 1e-12))]
    assert 0 < require_same_parameters(equal) < 1e-11


def test_other_parameters_are_an_error_before_anything_is_timed():
    with pytest.raises(ValueError, match=r"0\.weight is 1\.0e-06 apart with ours and theirs.*mend the peer"):
        require_same_parameters([Peer("ours", lambda: Trained(1.0)), Peer("theirs", lambda: Trained(1.000001))])


def test_what_is_hidden_is_the_part_of_what_the_step_exposes():
    exposed = {"funpipe": [0.010, 0.020], "funpipe, rotated": [0.001, 0.002]}
    measured = Measured(Results({}, {}, {}), 0.0, exposed, {name: [0.05, 0.05] for name in exposed})
    text = exposed_text(measured, 0.01)
    assert "50.00 (50.00 to 50.00) ms a step" in text
    assert "hidden by rotation: 0.90 (0.90 to 0.90) of what the step exposes" in text
