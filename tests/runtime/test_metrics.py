"""Results are combined over the replicas, and waited for when the first of them is read."""

import pytest
import torch

from funpipe._errors import ProgramError
from funpipe._typing import TensorType
from funpipe.runtime.metrics import Metrics, Results, pack, unpack
from tests.api.models import batch_of, params_of, step_of

CPU = torch.device("cpu")


def results(**kinds):
    """Results by name, each with its owner, reducer and an example."""
    owners = {n.replace("__", "."): owner for n, (owner, _, _) in kinds.items()}
    types = {n.replace("__", "."): TensorType.of(example) for n, (_, _, example) in kinds.items()}
    return Results(owners, types, {n.replace("__", "."): reducer for n, (_, reducer, _) in kinds.items()})


class Gathering:
    """What other ranks sent; counts how often it was waited for."""

    def __init__(self, parts):
        self.parts, self.waits = parts, 0

    def wait(self):
        self.waits += 1
        return self.parts


KINDS = results(
    aux__rows=(0, "cat", torch.zeros(2, 2, dtype=torch.int64)),
    aux__right=(1, "max", torch.zeros((), dtype=torch.bool)),
    loss=(1, "mean", torch.zeros(())),
)


def world(dp):
    """The bytes of all ranks of replicas of two ranks: on each its own results."""
    rows = []
    for d in range(dp):
        first = {"aux.rows": torch.full((2, 2), d)}
        second = {"loss": torch.tensor(float(d)), "aux.right": torch.tensor(d == 1)}
        rows += [pack(KINDS, first, CPU), pack(KINDS, second, CPU)]
    return rows


def test_packing_and_unpacking_is_nothing():
    own = {"loss": torch.tensor(2.5), "aux.right": torch.tensor(True)}
    found = unpack(KINDS, pack(KINDS, own, CPU))
    assert torch.equal(found["loss"], own["loss"])
    assert torch.equal(found["aux.right"], own["aux.right"])
    assert torch.equal(found["aux.rows"], torch.zeros(2, 2, dtype=torch.int64))


def test_every_rank_packs_as_many_bytes():
    assert {part.numel() for part in world(2)} == {4 * 8 + 1 + 4}


def test_nothing_to_report_is_no_bytes():
    assert pack(Results({}, {}, {}), {}, CPU).numel() == 0


def test_each_result_comes_from_its_owner_and_is_combined_over_the_replicas():
    metrics = Metrics(KINDS, {}, Gathering(world(2)), pp=2)
    assert list(metrics) == ["rows", "right", "loss"]
    assert metrics["loss"] == 0.5
    assert metrics["right"].item() is True
    assert metrics["rows"][:, 0].tolist() == [0, 0, 1, 1]


def test_it_is_waited_for_once_and_not_before_a_value_is_read():
    gathering = Gathering(world(1))
    metrics = Metrics(KINDS, {}, gathering, pp=2)
    assert (len(metrics), repr(metrics)) == (3, "Metrics(rows, right, loss)")
    assert "loss" in metrics
    with pytest.raises(KeyError, match="there is no metric 'acc'; there are 'rows', 'right', 'loss'"):
        metrics["acc"]
    waits = gathering.waits
    assert metrics["loss"] is metrics["loss"]
    assert gathering.waits == 1 >= waits


def test_a_weighted_loss_is_divided_by_the_weight_of_all_replicas():
    kinds = results(loss=(0, "sum", torch.zeros(())), weight=(0, "sum", torch.zeros((), dtype=torch.float64)))
    rows = [{"loss": torch.tensor(6.0), "weight": torch.tensor(1.0, dtype=torch.float64)}]
    rows += [{"loss": torch.tensor(2.0), "weight": torch.tensor(3.0, dtype=torch.float64)}]
    metrics = Metrics(kinds, {}, Gathering([pack(kinds, row, CPU) for row in rows]))
    assert list(metrics) == ["loss"]
    assert metrics["loss"] == 2.0


def test_an_auxiliary_value_may_be_called_weight():
    kinds = results(aux__weight=(0, "sum", torch.zeros(())), loss=(0, "mean", torch.zeros(())))
    metrics = Metrics(kinds, {"aux.weight": torch.tensor(7.0), "loss": torch.tensor(1.0)})
    assert dict(metrics) == {"weight": torch.tensor(7.0), "loss": torch.tensor(1.0)}


def test_results_are_read_off_the_programs():
    step = step_of()
    step.init(params_of(), batch_of())
    found = Results.of(step.lowered.all)
    assert found == Results({"loss": 0}, {"loss": TensorType((), (), torch.float32)}, {"loss": "mean"})


@pytest.mark.parametrize("found", [torch.zeros((), dtype=torch.float64), torch.zeros(1)])
def test_a_result_of_another_type_is_not_packed(found):
    with pytest.raises(ProgramError, match=r"the result 'loss' is float.*, but the programs type it float32\[\]"):
        pack(KINDS, {"loss": found}, CPU)


def test_a_weighted_loss_keeps_its_type():
    kinds = results(loss=(0, "sum", torch.zeros(())), weight=(0, "weight", torch.zeros((), dtype=torch.float64)))
    row = {"loss": torch.tensor(3.0), "weight": torch.tensor(2.0, dtype=torch.float64)}
    assert Metrics(kinds, row)["loss"].dtype == torch.float32


def test_what_other_ranks_make_is_blank_where_the_state_is():
    """Made there: a copy from the host would wait for the whole step."""
    meta = torch.device("meta")
    loss = torch.ones(KINDS.types["loss"].shape, dtype=KINDS.types["loss"].dtype, device=meta)
    nothing, one = pack(KINDS, {}, meta), pack(KINDS, {"loss": loss}, meta)
    assert nothing.device == one.device == meta and nothing.shape == one.shape
    assert KINDS.blank_on(CPU) is KINDS.blank
