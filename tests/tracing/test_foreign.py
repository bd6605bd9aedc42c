import re

import pytest
import torch
import torch.distributed as dist

import funpipe as fp
from funpipe._errors import TraceError


@pytest.fixture(scope="module", autouse=True)
def process_group():
    mesh = fp.mesh(pp=1, device="cpu")
    yield
    mesh.close()


def in_place(state, x):
    total = x.clone()
    dist.all_reduce(total)
    return state, total


def gathered(state, x):
    parts = [torch.empty_like(x)]
    dist.all_gather(parts, x)
    return state, parts[0]


def functional(state, x):
    name = dist.group.WORLD.group_name
    return state, torch.ops._c10d_functional.wait_tensor(torch.ops._c10d_functional.all_reduce(x, "sum", name))


@pytest.mark.parametrize(
    ("step", "line", "operator"),
    [
        (in_place, 2, "c10d.allreduce_"),
        (gathered, 2, "c10d.allgather_"),
        (functional, 2, "_c10d_functional.all_reduce"),
    ],
)
def test_collectives_of_torch_are_refused_with_the_line(step, line, operator):
    with pytest.raises(TraceError) as caught:
        fp.trace_step(step, {}, torch.ones(2))
    here = f"{__file__}:{step.__code__.co_firstlineno + line}"
    assert re.search(rf"^the step .*{re.escape(operator)}\.default at {re.escape(here)}, and", str(caught.value))
    assert "use fp.psum" in str(caught.value)


def test_a_loss_function_may_not_call_them_either():
    with pytest.raises(
        TraceError, match=r"the loss function gives a ScriptObject to c10d\.allreduce_.* outside of it\."
    ):
        fp.trace(lambda p, x: (in_place(None, x)[1] * p).sum(), torch.ones(2), torch.ones(2))
