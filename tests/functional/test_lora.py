"""LoRA: adapters as a transform of the parameter tree, equal to the same computation on one device."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import TreeError


def params(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = {"a.weight": (6, 5), "a.bias": (6,), "b.weight": (4, 6), "steps": ()}
    made = {n: torch.randn(s, generator=generator, dtype=dtype) for n, s in shapes.items() if n != "steps"}
    return made | {"steps": torch.tensor(3)}


def loss_fn(params, x):
    hidden = torch.tanh(x @ params["a.weight"].T + params["a.bias"])
    return (hidden @ params["b.weight"].T).square().mean()


X = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_adapters_begin_as_nothing():
    lora = fp.LoRA(rank=2)
    assert torch.equal(lora.loss(loss_fn)(lora.init(params(), key=0), X), loss_fn(params(), X))


def test_adapters_are_drawn_from_the_name_alone():
    both = fp.LoRA(rank=2).init(params(), key=7)["lora"]
    one = fp.LoRA(rank=2, where="b.weight").init(params(), key=7)["lora"]
    assert list(both) == ["a.weight", "b.weight"] and list(one) == ["b.weight"]
    assert torch.equal(both["b.weight"]["a"], one["b.weight"]["a"])
    assert both["a.weight"]["a"].abs().max() <= 1 / 5**0.5 and both["a.weight"]["a"].std() > 0


def eager(steps, lora, params, lr):
    """Plain SGD on the adapters."""
    for _ in range(steps):
        leaves = [leaf for pair in params["lora"].values() for leaf in pair.values()]
        grads = torch.autograd.grad(lora.loss(loss_fn)(params, X), leaves)
        with torch.no_grad():
            for leaf, grad in zip(leaves, grads, strict=True):
                leaf -= lr * grad
    return params


@pytest.mark.parametrize("stages", [1, 2])
def test_training_adapters_through_the_pipeline_equals_one_device(stages):
    lora = fp.LoRA(rank=2, alpha=8, where="*.weight")
    step = fp.train_step(lora.loss(loss_fn), fp.optim.sgd(0.1), stages=stages, num_microbatches=2, backend="interpret")
    state = step.init(lora.init(params(), key=0), X)
    for _ in range(3):
        state, _ = step(state, X)
    found = step.gather(state)[0]
    expected = eager(3, lora, lora.init(params(), key=0), 0.1)
    assert torch.equal(found["base"]["a.weight"], params()["a.weight"])
    for name, pair in expected["lora"].items():
        for part, leaf in pair.items():
            torch.testing.assert_close(found["lora"][name][part], leaf.detach(), rtol=1e-9, atol=1e-12)


def test_merged_parameters_give_the_loss_of_the_adapted_ones():
    lora = fp.LoRA(rank=2, alpha=3)
    tree = lora.init(params(), key=0)
    tree["lora"]["a.weight"]["b"].data.fill_(0.3)
    torch.testing.assert_close(loss_fn(lora.merge(tree), X), lora.loss(loss_fn)(tree, X))
    expected = params()["a.weight"] + 1.5 * tree["lora"]["a.weight"]["b"] @ tree["lora"]["a.weight"]["a"]
    torch.testing.assert_close(lora.merge(tree)["a.weight"], expected)


def test_a_leaf_that_is_no_matrix_is_an_error():
    with pytest.raises(TreeError, match=r"LoRA: 'a.bias' is float64\[6\].*leave it out of where='a'"):
        fp.LoRA(rank=2, where="a").init(params(), key=0)


def test_a_rank_below_one_is_an_error():
    with pytest.raises(TreeError, match="LoRA: the rank is 0; use 1 or more"):
        fp.LoRA(rank=0)


def test_a_tree_without_adapters_is_an_error():
    lora = fp.LoRA(rank=2)
    with pytest.raises(TreeError, match=r"LoRA: the parameters are not .* pass what lora.init\(params, key\) returned"):
        lora.loss(lambda p, x: x)({"w": torch.ones(2, 2)}, torch.ones(2))
