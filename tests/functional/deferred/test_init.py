"""`fp.init`: parameters by their names, without anybody who holds the whole model."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import funpipe as fp
from funpipe._errors import FunpipeTypeError, TraceError


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Model(nn.Module):
    """Many ways in which people make tensors."""

    def __init__(self, blocks=2, width=8):
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = nn.Linear(width, 11, bias=False)
        self.head.weight = self.embed.weight
        self.tall = nn.Parameter(torch.empty(6, 4))
        nn.init.orthogonal_(self.tall)
        self.scaled = nn.Parameter(torch.randn(3, 5) * 0.1)
        self.cut = nn.Parameter(nn.init.trunc_normal_(torch.empty(40, 50), std=0.02, a=-0.03, b=0.03))
        self.listed = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.register_buffer("angles", 1.0 / 10000 ** (torch.arange(0, 4).float() / 4))
        self.plain = torch.arange(3) * 2
        self.rates = [x.item() for x in torch.linspace(0, 0.2, 3)]
        for name, parameter in self.named_parameters():
            if name.endswith("down.weight"):
                parameter.data.normal_(0, 0.5)

    def forward(self, x):
        x = self.embed(x) * self.plain.sum() + self.rates[-1]
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def made(blocks=2, key=0):
    apply, params, buffers = fp.init(lambda: Model(blocks), key)
    return apply, fp.materialise(params), fp.materialise(buffers)


def test_leaves_are_those_of_the_module_without_memory():
    apply, params, buffers = fp.init(Model, 0)
    own = dict(Model().named_parameters())
    assert list(params) == list(own) and list(buffers) == ["angles"]
    assert all(leaf.device.type == "meta" and leaf.requires_grad for leaf in params.values())
    assert {n: leaf.shape for n, leaf in params.items()} == {n: leaf.shape for n, leaf in own.items()}
    assert apply.aliases == {"head.weight": "embed.weight"}


def test_what_is_not_random_is_what_the_module_has():
    _, params, buffers = made()
    model = Model()
    for name in ("blocks.0.norm.weight", "blocks.1.norm.bias", "listed"):
        assert torch.equal(params[name], dict(model.named_parameters())[name])
    assert torch.equal(buffers["angles"], model.angles)


def test_a_plain_tensor_has_values_and_the_function_runs():
    apply, params, buffers = made()
    out, _ = apply(params, buffers, torch.tensor([[1, 2, 3]]))
    assert out.shape == (1, 3, 11) and torch.isfinite(out).all()
    assert apply.module.plain.tolist() == [0, 2, 4] and apply.module.rates == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize(("name", "std"), [("blocks.0.down.weight", 0.5), ("embed.weight", 1.0)])
def test_normal_numbers_have_the_standard_deviation_that_was_asked(name, std):
    leaf = made()[1][name]
    assert abs(leaf.std() / std - 1) < 4 / math.sqrt(2 * leaf.numel())


def test_linear_layers_are_uniform_within_their_bound():
    leaf = made()[1]["blocks.1.up.weight"]
    assert leaf.abs().max() <= 1 / math.sqrt(8) and leaf.abs().max() > 0.9 / math.sqrt(8)
    assert abs(leaf.mean()) < 4 * 0.21 / math.sqrt(leaf.numel())


def test_truncated_normal_numbers_are_cut_off_and_spread():
    leaf = made()[1]["cut"]
    # The variance of a standard normal number cut off at 1.5: 1 - 2 * 1.5 * pdf(1.5) / (2 * cdf(1.5) - 1).
    expected = 0.02 * math.sqrt(1 - 3 * 0.129518 / 0.866386)
    assert leaf.abs().max() <= 0.03 and abs(leaf.std() / expected - 1) < 4 / math.sqrt(2 * leaf.numel())


def test_an_orthogonal_matrix_is_orthogonal():
    tall = made()[1]["tall"]
    torch.testing.assert_close(tall.T @ tall, torch.eye(4), rtol=0, atol=1e-6)


def test_leaves_do_not_depend_on_others():
    few, many = made(2)[1], made(5)[1]
    assert all(torch.equal(leaf, many[name]) for name, leaf in few.items())


def test_another_key_gives_other_numbers_and_the_same_key_the_same():
    one, other, again = made(key=1)[1], made(key=2)[1], made(key=fp.random.key(1))[1]
    assert all(torch.equal(leaf, again[name]) for name, leaf in one.items())
    random = [n for n in one if "norm" not in n and n != "listed"]
    assert not any(torch.equal(one[n], other[n]) for n in random)


def test_equal_layers_have_different_numbers():
    params = made()[1]
    assert not torch.equal(params["blocks.0.up.weight"], params["blocks.1.up.weight"])


def test_a_leaf_that_is_a_copy_of_another_is_equal_to_it():
    def build():
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        with torch.no_grad():
            model[1].weight.copy_(model[0].weight)
        return model

    params = fp.materialise(fp.init(build, 0)[1])
    assert torch.equal(params["0.weight"], params["1.weight"])


def test_slices_written_in_turn_are_all_there():
    def build():
        layer = nn.Linear(4, 6)
        with torch.no_grad():
            layer.weight[:3].fill_(2)
            layer.weight[3:].view(-1).normal_()
            layer.weight[0, 0] = 7
            layer.weight.t()[1].zero_()
        return layer

    weight = fp.materialise(fp.init(build, 0)[1])["weight"]
    assert weight[0].tolist() == [7, 0, 2, 2] and weight[3:, 1].tolist() == [0, 0, 0] and weight[3:].std() > 0.3


def test_values_from_numpy_and_lists_are_kept():
    table = np.arange(6.0, dtype=np.float32).reshape(2, 3)

    def build():
        layer = nn.Linear(3, 2)
        layer.weight.data = torch.from_numpy(table) * 2
        return layer

    assert fp.materialise(fp.init(build, 0)[1])["weight"].tolist() == (table * 2).tolist()


def test_frozen_parameters_stay_frozen():
    def build():
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        model[0].requires_grad_(False)
        return model

    _, params, _ = fp.init(build, 0)
    assert [n for n, leaf in params.items() if leaf.requires_grad] == ["1.weight", "1.bias"]
    assert [n for n, leaf in fp.materialise(params).items() if leaf.requires_grad] == ["1.weight", "1.bias"]
    assert [n for n, leaf in fp.freeze(params, "1", but="1.bias").items() if leaf.requires_grad] == ["1.bias"]


def test_a_huge_model_takes_no_memory():
    _, params, _ = fp.init(lambda: nn.Sequential(*(nn.Linear(1 << 20, 1 << 20) for _ in range(4))), 0)
    assert sum(leaf.numel() for leaf in params.values()) > 1 << 42


def loss_fn(apply):
    def loss(params, batch, *, buffers):
        out, buffers = apply(params, buffers, batch)
        return fp.Out(out.square().mean(), buffers=buffers)

    return loss


@pytest.mark.parametrize("stages", [1, 3])
def test_a_step_makes_the_leaves_that_it_keeps(stages):
    apply, params, buffers = fp.init(Model, 3)
    step = fp.train_step(loss_fn(apply), fp.optim.sgd(0.1), stages=stages, backend="interpret")
    batch = torch.tensor([[1, 2, 3]])
    one = step.gather(step.init(params, batch, buffers=buffers))
    real = step.gather(step.init(fp.materialise(params), batch, buffers=fp.materialise(buffers)))
    for found, expected in zip(one, real, strict=True):
        assert all(torch.equal(leaf, expected[name]) for name, leaf in found.items())


def test_a_module_in_place_of_a_function_is_an_error():
    with pytest.raises(FunpipeTypeError, match=r"takes a function that builds the module, not a Linear.*lambda"):
        fp.init(nn.Linear(2, 2), 0)
    with pytest.raises(FunpipeTypeError, match=r"returned a int; return an nn\.Module"):
        fp.init(lambda: 3, 0)


def test_a_random_number_read_in_python_is_an_error():
    with pytest.raises(TraceError, match=r"reads a random number in Python.*fp\.functionalize"):
        fp.init(lambda: nn.Dropout(torch.rand(()).item()), 0)


def test_a_rank_makes_no_leaf_of_another_rank():
    from funpipe.functional.deferred import deferred
    from funpipe.runtime.leaves_of_state import initial_values

    def never():
        raise AssertionError("this leaf lives on the other rank")

    params = {"a": torch.ones(2, 2), "b": torch.ones(2, 2)}
    step = fp.train_step(lambda p, x: (torch.tanh(x @ p["a"]) @ p["b"]).sum(), fp.optim.sgd(0.1), stages=2)
    traced = step.trace(params, torch.ones(1, 2)).traced
    stages = fp.stages.partition(traced, fp.stages.balanced(2)(traced))
    programs = fp.programs.lower(traced, stages, fp.schedules.GPipe().table(2, 1), optimizer=fp.optim.sgd(0.1))
    for rank, (mine, others) in enumerate((("a", "b"), ("b", "a"))):
        leaves = {mine: deferred(lambda: torch.full((2, 2), 3.0), params[mine], True)}
        leaves[others] = deferred(never, params[others], True)
        values = initial_values(programs, programs.programs[rank], leaves, {}, fp.optim.sgd(0.1), torch.device("cpu"))
        (bucket,) = (v for n, v in values.items() if n.startswith("bucket."))
        assert bucket[:4].tolist() == [3.0] * 4
