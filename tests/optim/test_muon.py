import pytest
import torch

from funpipe._errors import FunpipeError
from funpipe.optim import adamw, apply, muon, sgd
from funpipe.optim.muon import is_hidden
from tests.optim.references import assert_equal, both, draw

SHAPES = {"tall": (9, 4), "wide": (3, 8), "square": (5, 5)}
SETTINGS = [
    {},
    {"nesterov": False, "weight_decay": 0.3, "momentum": 0.5},
    {"momentum": 0.3},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_equals_torch(settings, adjust):
    reference = lambda leaves: torch.optim.Muon(leaves, lr=0.05, adjust_lr_fn=adjust, **settings)  # noqa: E731
    assert_equal(*both(muon(0.05, adjust=adjust, **settings), reference, SHAPES), 1e-12)


def test_iterations_may_be_computed_in_full():
    """Five cubic steps of a matrix with singular values near one end at its nearest orthogonal one."""
    u, _, v = torch.linalg.svd(draw(0, {"w": (4, 4)})["w"])
    grad = u @ torch.diag(torch.tensor([0.9, 1.0, 1.0, 1.1], dtype=torch.float64)) @ v
    optimizer = muon(
        1.0, 0.0, momentum=0.0, nesterov=False, coefficients=(1.5, -0.5, 0.0), steps=12, dtype=torch.float64
    )
    params = {"w": torch.zeros(4, 4, dtype=torch.float64)}
    new, _ = apply(optimizer, params, {"w": grad}, optimizer.init(params), torch.tensor(0))
    torch.testing.assert_close(new["w"], -(u @ v), rtol=0, atol=1e-9)


def test_other_leaves_go_to_the_rest():
    rest = adamw(0.1)
    optimizer = muon(0.05, rest=rest)
    shapes = {"embedding.weight": (6, 4), "layers.0.weight": (4, 4), "layers.0.bias": (4,), "lm_head.weight": (6, 4)}
    params, grads = draw(0, shapes), draw(1, shapes)
    new, state = apply(optimizer, params, grads, optimizer.init(params), torch.tensor(0))
    others = {name: leaf for name, leaf in params.items() if name != "layers.0.weight"}
    expected, _ = apply(rest, others, {n: grads[n] for n in others}, rest.init(others), torch.tensor(0))
    assert all(torch.equal(new[name], leaf) for name, leaf in expected.items())
    assert list(state["momentum"]) == ["layers.0.weight"]


def test_which_leaves_are_matrices_may_be_said():
    optimizer = muon(0.05, rest=sgd(1.0), matrices=lambda name, leaf: name == "head")
    params = draw(0, {"head": (3, 3), "w": (3, 3)})
    new, _ = apply(optimizer, params, params, optimizer.init(params), torch.tensor(0))
    assert torch.equal(new["w"], torch.zeros(3, 3, dtype=torch.float64))
    assert not torch.equal(new["head"], new["w"])


WORDS = [("multihead_attn.in_proj_weight", 2, True), ("embed_tokens.weight", 2, False), ("LM_Head", 2, False)]


@pytest.mark.parametrize(
    ("name", "dims", "found"), [("a.weight", 2, True), ("wte.weight", 2, False), ("b", 1, False), *WORDS]
)
def test_hidden_matrices_are_told_by_dimensions_and_name(name, dims, found):
    assert is_hidden(name, torch.ones((1,) * dims)) is found


def test_a_vector_is_refused_with_the_remedy():
    with pytest.raises(FunpipeError, match=r"leaf 'b' has shape \(3,\).*muon\(rest=fp\.optim\.adamw\(3e-4\)\)"):
        muon().init({"b": torch.ones(3)})


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"momentum": 1.0}, r"momentum is 1\.0"),
        ({"steps": 0}, r"steps is 0; pass at least 1"),
        ({"adjust": "none"}, r"adjust is 'none'; use 'original' or 'match_rms_adamw'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, text):
    with pytest.raises(FunpipeError, match=text):
        muon(**settings)
