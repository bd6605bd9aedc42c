import pytest
import torch

from funpipe._errors import FunpipeError, FunpipeTypeError
from funpipe.optim import Transform, adam, adamw, apply, chain, clip_by_global_norm, sgd

REVERSE = Transform(
    lambda params: {},
    lambda grads, state, params, ctx: ({name: -g for name, g in grads.items()}, state),
    name="reverse",
)
LEAVES = {"b": torch.tensor([1.0]), "w": torch.tensor([[2.0, 3.0]])}


def test_parts_run_in_order():
    params, state = apply(chain(REVERSE, sgd(1.0)), LEAVES, LEAVES, {"0": {}, "1": {}}, torch.tensor(0))
    assert params["w"].tolist() == [[4.0, 6.0]]
    assert state == {"0": {}, "1": {}}


def test_chain_of_one_is_the_optimizer():
    alone, chained = adam(0.1), chain(adam(0.1))
    expected, _ = apply(alone, LEAVES, LEAVES, alone.init(LEAVES), torch.tensor(3))
    found, _ = apply(chained, LEAVES, LEAVES, chained.init(LEAVES), torch.tensor(3))
    assert torch.equal(found["w"], expected["w"])


def test_chains_nest():
    inner = chain(REVERSE, adamw(0.1, decay_mask=lambda name, leaf: leaf.dim() > 1))
    outer = chain(REVERSE, inner)
    assert outer.label is not None
    assert outer.label("b", LEAVES["b"]) == (None, (None, "no decay"))
    plain = adamw(0.1, decay_mask=lambda name, leaf: leaf.dim() > 1)
    found, _ = apply(outer, LEAVES, LEAVES, outer.init(LEAVES), torch.tensor(0))
    expected, _ = apply(plain, LEAVES, LEAVES, plain.init(LEAVES), torch.tensor(0))
    assert all(torch.equal(found[name], expected[name]) for name in LEAVES)


def test_scalars_carry_the_index_of_their_part():
    scalars = chain(clip_by_global_norm(1.0), adam(0.1)).scalars(torch.tensor(0))
    assert sorted(scalars) == ["1.correction", "1.step_size"]


def test_labels_and_norm_pass_through():
    clipped = chain(clip_by_global_norm(1.0), adam(0.1))
    assert clipped.needs_norm and clipped.label is None
    assert not chain(REVERSE, adam(0.1)).needs_norm


@pytest.mark.parametrize(
    "parts, error, message",
    [
        ((), FunpipeError, r"chain\(\) has no parts; end it with an optimizer"),
        ((REVERSE,), FunpipeError, r"ends with the transform reverse; add an optimizer after it"),
        ((sgd(0.1), REVERSE), FunpipeError, r"part 0 of chain, sgd\(lr=0\.1\), is an optimizer.*move it to the end"),
        ((sgd(0.1), sgd(0.2)), FunpipeError, r"part 0 of chain, sgd\(lr=0\.1\), is an optimizer"),
        ((REVERSE, clip_by_global_norm(1.0), sgd(0.1)), FunpipeError, r"part 1 .*global norm.*move it to the front"),
        ((clip_by_global_norm, sgd(0.1)), FunpipeTypeError, r"part 0 of chain is <function.*pass Transform or Optim"),
    ],
)
def test_wrong_parts(parts, error, message):
    with pytest.raises(error, match=message):
        chain(*parts)
