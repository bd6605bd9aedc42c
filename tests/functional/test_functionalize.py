import copy

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe._errors import FunpipeTypeError, TreeError
from funpipe.functional.functionalize import functionalize


class TinyGPT(nn.Module):
    """An embedding whose weight is the head's too."""

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(7, 4)
        self.mlp = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, tokens):
        return self.head(self.mlp(self.wte(tokens)))


class Counter(nn.Module):
    """One buffer that is written in place, one that is replaced, one under two names, one that is not used."""

    def __init__(self):
        super().__init__()
        self.register_buffer("written", torch.zeros(2))
        self.register_buffer("replaced", torch.zeros(2), persistent=False)
        self.register_buffer("unused", torch.zeros(2))
        self.register_buffer("other", self.written)
        self.register_buffer("nothing", None)

    def forward(self, x, *, scale=1.0):
        self.written += x.sum()
        self.replaced = self.replaced + scale
        return x + self.other


def batch_norm():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))


def snapshot(module):
    """All that must not change: values, identities, flags, gradients."""
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return [(name, id(t), t.requires_grad, t.grad, t.detach().clone()) for name, t in tensors], module.training


def assert_unchanged(before, module):
    after = snapshot(module)
    assert after[1] == before[1]
    for old, new in zip(before[0], after[0], strict=True):
        assert old[:4] == new[:4]
        assert torch.equal(old[4], new[4])


def test_names_are_those_of_the_module():
    module = batch_norm()
    _, params, buffers = functionalize(module)
    assert list(params) == [name for name, _ in module.named_parameters()]
    assert list(buffers) == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]


def test_the_same_output_as_the_module():
    module, x = batch_norm().eval(), torch.randn(5, 3)
    apply, params, buffers = functionalize(module)
    assert torch.equal(apply(params, buffers, x)[0], module(x))


def test_batch_norm_returns_its_statistics():
    module, x = batch_norm(), torch.randn(5, 3)
    before = snapshot(module)
    apply, params, buffers = functionalize(module)
    given = {name: buffer.clone() for name, buffer in buffers.items()}
    out, new = apply(params, given, x)
    assert_unchanged(before, module)
    assert all(torch.equal(given[name], buffers[name]) for name in buffers)
    assert torch.equal(out, module(x))
    assert {name: b.tolist() for name, b in new.items()} == {name: b.tolist() for name, b in module.named_buffers()}


def test_batch_norm_in_a_traced_graph_does_not_change_the_module():
    module, x = batch_norm(), torch.randn(5, 3)
    before = snapshot(module)
    apply, params, buffers = functionalize(module)
    graph = make_fx(lambda p, b, x: apply(p, b, x), tracing_mode="fake")(params, buffers, x)
    out, new = graph(params, buffers, x)
    assert_unchanged(before, module)
    assert torch.equal(out, module(x))
    assert torch.equal(new["1.running_var"], module[1].running_var)


def test_buffers_written_replaced_shared_and_unused():
    module = Counter()
    apply, params, buffers = functionalize(module)
    assert (list(buffers), apply.aliases) == (["written", "replaced", "unused"], {"other": "written"})
    out, new = apply(params, buffers, torch.ones(2), scale=3.0)
    assert {name: buffer.tolist() for name, buffer in new.items()} == {
        "written": [2, 2], "replaced": [3, 3], "unused": [0, 0]
    }  # fmt: skip
    assert out.tolist() == [3, 3]
    assert all(not buffer.any() for buffer in module.buffers())


def test_the_module_is_unchanged_after_an_error():
    module = batch_norm()
    before = snapshot(module)
    apply, params, buffers = functionalize(module)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        apply(params, buffers, torch.ones(5, 4))
    assert_unchanged(before, module)


def test_tied_parameters_are_one_leaf():
    module = TinyGPT()
    apply, params, _ = functionalize(module)
    assert list(params) == ["wte.weight", "mlp.weight", "mlp.bias"]
    assert apply.aliases == {"head.weight": "wte.weight"}


def test_a_tied_leaf_is_used_under_all_its_names():
    module, tokens = TinyGPT(), torch.tensor([[1, 2, 3]])
    apply, params, buffers = functionalize(module)
    doubled = {**params, "wte.weight": 2 * params["wte.weight"]}
    h = 2 * nn.functional.embedding(tokens, params["wte.weight"])
    expected = nn.functional.linear(module.mlp(h), doubled["wte.weight"])
    assert torch.equal(apply(doubled, buffers, tokens)[0], expected)


def test_the_gradient_of_a_tied_leaf_is_that_of_all_its_places():
    module, tokens = TinyGPT(), torch.tensor([[1, 2, 3]])
    before = snapshot(module)
    apply, params, buffers = functionalize(module)
    grads = torch.func.grad(lambda p: apply(p, buffers, tokens)[0].square().mean())(params)
    assert_unchanged(before, module)
    module(tokens).square().mean().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad)


def test_vmap_over_an_ensemble():
    models = [nn.Linear(3, 2) for _ in range(4)]
    apply, _, buffers = functionalize(models[0])
    each = [functionalize(model)[1] for model in models]
    stacked = {name: torch.stack([params[name] for params in each]) for name in each[0]}
    x = torch.randn(5, 3)
    out = torch.func.vmap(lambda p: apply(p, buffers, x)[0])(stacked)
    torch.testing.assert_close(out, torch.stack([model(x) for model in models]))


def test_vmap_threads_buffers():
    apply, params, buffers = functionalize(Counter())
    each = {name: buffer.expand(3, 2) for name, buffer in buffers.items()}
    out, new = torch.func.vmap(lambda b, x: apply(params, b, x))(each, torch.arange(6.0).reshape(3, 2))
    assert new["written"].tolist() == [[1, 1], [5, 5], [9, 9]]
    assert new["replaced"].shape == (3, 2)


def test_params_share_memory_and_are_not_the_parameters():
    module = nn.Linear(3, 2)
    _, params, _ = functionalize(module)
    assert params["weight"].data_ptr() == module.weight.data_ptr()
    assert type(params["weight"]) is torch.Tensor


def test_frozen_parameters_stay_frozen():
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    _, params, _ = functionalize(module)
    assert {name: p.requires_grad for name, p in params.items()} == {"weight": True, "bias": False}


def test_a_backward_through_params_leaves_the_module_without_gradients():
    module = nn.Linear(3, 2)
    apply, params, buffers = functionalize(module)
    apply(params, buffers, torch.ones(1, 3))[0].sum().backward()
    assert params["weight"].grad is not None
    assert module.weight.grad is None


def test_a_module_on_the_meta_device():
    with torch.device("meta"):
        module = batch_norm()
    apply, params, buffers = functionalize(module)
    out, new = apply(params, buffers, torch.empty(5, 3, device="meta"))
    assert out.shape == (5, 3)
    assert all(t.is_meta for t in (*params.values(), *new.values()))


def test_a_meta_module_called_with_real_parameters():
    real = batch_norm()
    _, params, buffers = functionalize(real)
    apply, _, _ = functionalize(copy.deepcopy(real).to("meta"))
    x = torch.randn(5, 3)
    assert torch.equal(apply(params, buffers, x)[0], real(x))


def test_the_mode_is_that_of_the_call():
    module = nn.Dropout(0.9)
    apply, params, buffers = functionalize(module)
    module.eval()
    assert torch.equal(apply(params, buffers, torch.ones(100))[0], torch.ones(100))


def test_arguments_named_like_the_dicts_reach_the_module():
    class Named(nn.Module):
        def forward(self, params, buffers):
            return params - buffers

    apply, params, buffers = functionalize(Named())
    assert apply(params, buffers, params=torch.tensor(3), buffers=torch.tensor(1))[0] == 2


def test_only_modules():
    with pytest.raises(FunpipeTypeError, match=r"functionalize takes an nn\.Module, not a function; pass the module"):
        functionalize(lambda x: x)  # type: ignore[arg-type]


def test_lazy_modules():
    with pytest.raises(
        TreeError, match=r"module: '0\.weight' is lazy and has no shape yet; call the module once before\."
    ):
        functionalize(nn.Sequential(nn.LazyLinear(2)))


def test_unknown_missing_and_tied_names():
    apply, params, buffers = functionalize(TinyGPT())
    tokens = torch.tensor([[1]])
    weight = params["wte.weight"]
    with pytest.raises(TreeError, match=r"params: unknown leaf 'mlp\.weigth'; the nearest names are 'mlp\.weight'"):
        apply({**params, "mlp.weigth": weight}, buffers, tokens)
    with pytest.raises(TreeError, match=r"params: missing 'mlp\.weight', 'mlp\.bias'; pass a value for each name\."):
        apply({"wte.weight": weight}, buffers, tokens)
    with pytest.raises(TreeError, match=r"'head\.weight' is tied to 'wte\.weight' and is one leaf with it"):
        apply({**params, "head.weight": weight}, buffers, tokens)
    with pytest.raises(TreeError, match=r"buffers: unknown leaf 'mean'; no leaf is expected; remove it\."):
        apply(params, {"mean": weight}, tokens)


class Sharing(nn.Module):
    """One block under three names, and a parameter under two names of one module."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(3, 3)
        self.blocks = nn.ModuleList([self.shared, self.shared])
        self.shared.again = self.shared.weight

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x @ self.shared.again


def test_a_module_that_is_shared_under_several_names_gets_its_own_parameters_back():
    # functional_call took what it had put in under the first name for the module's own, and left it there.
    module, x = Sharing(), torch.randn(2, 3)
    before = snapshot(module)
    apply, params, _ = functionalize(module)
    assert list(params) == ["shared.weight", "shared.bias"]
    doubled = {name: 2 * p for name, p in params.items()}
    out, _ = apply(doubled, {}, x)
    assert_unchanged(before, module)
    wanted = (x @ doubled["shared.weight"].T + doubled["shared.bias"]) @ doubled["shared.weight"].T
    assert torch.allclose(out, (wanted + doubled["shared.bias"]) @ doubled["shared.weight"])
