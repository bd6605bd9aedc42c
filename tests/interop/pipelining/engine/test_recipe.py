"""Calls like an earlier one take the same views of their arguments."""

import torch

from funpipe.interop.pipelining.engine.call import Call
from funpipe.interop.pipelining.engine.given import given
from funpipe.interop.pipelining.engine.inputs import own
from funpipe.interop.pipelining.engine.options import Options
from funpipe.interop.pipelining.engine.recipe import leaves_of, recipe
from funpipe.interop.pipelining.microbatch import TensorChunkSpec


def seen(call, **options):
    leaves, _ = leaves_of(call)
    return leaves, {0: own(0, True, given(call, Options(2, **options)), None)}


def test_pieces_of_a_later_call_are_found_where_they_were():
    options = {"args_chunk_spec": (TensorChunkSpec(1),)}
    made = recipe(*seen(Call((torch.zeros(3, 4),), {"scale": torch.ones(2)}), **options))
    later = Call((torch.arange(12.0).reshape(3, 4),), {"scale": torch.tensor([5.0, 6.0])})
    leaves, owns = seen(later, **options)
    for name, view in made.items():
        key, _, i = name.removeprefix("batch.0.").rpartition("@")
        assert torch.equal(view.of(leaves), owns[0].tensors[int(i)][key])
    assert len(made) == 4


def test_keys_differ_where_the_pieces_would():
    x = torch.zeros(4, 4)
    keys = [leaves_of(Call((value,)))[1] for value in (x, x + 1, x.t(), x[:2], x.double(), x.clone().requires_grad_())]
    assert keys[0] == keys[1] and len(set(keys)) == 5


def test_what_is_copied_has_no_recipe():
    call = Call(arg_mbs=[(torch.zeros(2),), (torch.zeros(2),)])
    leaves, owns = seen(call)
    assert recipe(leaves, owns) is not None
    assert recipe([], owns) is None


def test_arguments_that_share_memory_have_another_key():
    x, tokens = torch.zeros(4), torch.zeros(4, 5)
    same, apart = (leaves_of(Call((x,), target=y))[1] for y in (x, x.clone()))
    assert same != apart
    shifted, later = (leaves_of(Call((t[:, :-1],), target=t[:, 1:]))[1] for t in (tokens, torch.ones(4, 5)))
    assert shifted == later
    rows = torch.zeros(8, 2)
    assert len({leaves_of(Call((rows[i : i + 2],)))[1] for i in range(6)}) == 1
