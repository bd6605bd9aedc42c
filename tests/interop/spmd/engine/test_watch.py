import copy
import pickle

import pytest
import torch
from torch import nn

from funpipe.interop.spmd.engine.watch import Watch

READS = [
    lambda d: d["weight"],
    lambda d: d.get("weight"),
    lambda d: list(d),
    lambda d: list(d.items()),
    lambda d: list(d.values()),
    lambda d: d | {},
    lambda d: d == {},
    lambda d: dict(d),
    lambda d: {**d},
    lambda d: d.copy(),
    lambda d: copy.deepcopy(d),
    lambda d: pickle.dumps(d),
    lambda d: d.pop("bias"),
    lambda d: d.update(weight=None),
    lambda d: d.__setitem__("weight", None),
]


def watched(module, optimizer=None):
    """A watch, and the list of what it completed."""
    done = []

    def complete():
        done.append(1)
        watch.end()

    watch = Watch([module], optimizer, complete)
    return watch, done


@pytest.mark.parametrize("read", range(len(READS)))
def test_a_read_completes_the_work_once_and_sees_the_real_dictionary(read):
    module = nn.Linear(2, 2)
    real = module._parameters
    _, done = watched(module)
    READS[read](module._parameters)
    assert done == [1]
    assert module._parameters is real


def test_names_alone_complete_nothing():
    module = nn.Linear(2, 2)
    watch, done = watched(module)
    assert "weight" in module._parameters
    assert len(module._parameters) == 2
    module.train()
    watch.end()
    assert done == []


def test_an_optimizer_that_steps_or_is_saved_completes_the_work():
    for use in (lambda o: o.step(), lambda o: o.state_dict(), lambda o: o.state[0]):
        module = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        state = optimizer.state
        _, done = watched(module, optimizer)
        use(optimizer)
        assert done == [1]
        assert optimizer.state is state


def test_a_watch_that_raises_goes_on():
    module = nn.Linear(2, 2)

    def complete():
        raise RuntimeError("flush first")

    watch = Watch([module], None, complete)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="flush first"):
            module.state_dict()
    watch.end()
    assert len(module.state_dict()) == 2
