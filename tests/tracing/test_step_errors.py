import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import funpipe as fp
from funpipe._errors import CommunicationError, FunpipeTypeError, MeshError, TraceError, TreeError

TWO = fp.MeshShape(pp=1, dp=2)


def a_step(state, batch):
    return {"n": state["n"] + 1, "w": state["w"]}, {"y": batch["x"] * 2, "all": [batch["x"].sum()]}


# Errors


def raised(error, step, state=None, batch=None, **options):
    with pytest.raises(error) as caught:
        fp.trace_step(
            step, {"w": torch.ones(2)} if state is None else state, torch.ones(2) if batch is None else batch, **options
        )
    return str(caught.value)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (torch.ones(2), "the step returned a value of type Tensor: return a pair, (new_state, aux)."),
        (({}, {}, {}), "the step returned 3 values: return a pair, (new_state, aux)."),
    ],
)
def test_what_is_no_pair(returned, said):
    assert raised(TraceError, lambda state, x: returned) == said


def test_random_numbers():
    text = raised(TraceError, lambda state, x: ({"w": F.dropout(state["w"])}, None))
    assert re.search(
        rf"^the step draws random numbers: aten\.\S+ at {re.escape(__file__)}:\d+\. .* pass a key in the state", text
    )
    assert text.endswith("or draw the numbers outside and pass them in the batch.")


def test_a_branch_on_a_value():
    text = raised(TraceError, lambda state, x: (state, x if x.sum() > 0 else -x))
    assert re.search(r"^the step reads a tensor's value in Python at .*test_step_errors\.py:\d+: ", text)


def test_a_write_to_the_state():
    def step(state, x):
        state["w"] += x
        return state, None

    here = f"{__file__}:{step.__code__.co_firstlineno + 1}"
    text = raised(TraceError, step)
    assert f"the step writes to the state leaf 'w' in place, at {here}." in text
    assert text.endswith("write to a copy (x = x.clone()), or return the new value in the state.")


def test_a_step_that_raises():
    text = raised(TraceError, lambda state, x: (state["v"], None))
    assert re.search(r"^the step raised KeyError at .*test_step_errors\.py:\d+: .*: 'v'\. Correct that line", text)


def test_a_collective_that_does_not_fit():
    text = raised(
        CommunicationError, lambda state, x: (state, fp.reduce_scatter(x, "dp")), batch=torch.ones(3), mesh=TWO
    )
    assert text.endswith("is 3, which 2 ranks along 'dp' cannot share equally; pad it to 4.")


def test_a_closed_over_parameter():
    weight = nn.Parameter(torch.ones(2))
    text = raised(TraceError, lambda state, x: (state, x * weight))
    assert "that requires a gradient" in text and text.endswith("Pass it in the state, or detach it.")


@pytest.mark.parametrize(
    ("state", "batch", "said"),
    [({"w": 1.0}, None, r"state: leaf 'w' is of type float"), (None, {"n": 3}, r"batch: leaf 'n' is of type int")],
)
def test_leaves_that_are_no_tensors(state, batch, said):
    assert re.search(said, raised(TreeError, a_step, state, batch))


def test_results_that_are_no_tensors():
    assert "aux: leaf 'lr' is of type float" in raised(TreeError, lambda state, x: (state, {"lr": 0.1}))


def test_other_processes_and_no_mesh(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    text = raised(MeshError, lambda state, x: (state, None))
    assert re.search(r"there are 4 processes, and trace_step was given no mesh: pass mesh=fp\.mesh\(", text)


def test_something_else_in_place_of_a_mesh():
    text = raised(FunpipeTypeError, a_step, mesh=2)
    assert text == "trace_step: mesh is 2; pass fp.mesh(pp=..., dp=...), or its shape alone, fp.MeshShape(pp=1, dp=2)."
