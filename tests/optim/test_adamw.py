import pytest
import torch

from funpipe._errors import FunpipeError
from funpipe.optim import adamw, apply

LEAVES = {"bias": torch.ones(1), "weight": torch.ones(1, 1)}


def test_without_a_mask_every_leaf_has_one_label():
    assert adamw(0.1).label is None


def test_mask_sees_names_and_leaves():
    seen = []
    optimizer = adamw(0.1, decay_mask=lambda name, leaf: seen.append((name, leaf.dim())) or name == "weight")
    assert optimizer.label is not None
    assert [optimizer.label(name, leaf) for name, leaf in LEAVES.items()] == ["no decay", "decay"]
    assert seen == [("bias", 1), ("weight", 2)]


def test_masked_leaves_keep_their_value_at_zero_gradient():
    optimizer = adamw(0.1, weight_decay=0.5, decay_mask=lambda name, leaf: leaf.dim() > 1)
    zeros = {name: torch.zeros_like(leaf) for name, leaf in LEAVES.items()}
    params, _ = apply(optimizer, LEAVES, zeros, optimizer.init(LEAVES), torch.tensor(0))
    assert params["bias"].item() == 1.0
    assert params["weight"].item() == pytest.approx(0.95)


def test_bad_settings_name_adamw():
    with pytest.raises(FunpipeError, match=r"adamw: weight_decay is -0\.1.*pass a number such as 0\.01"):
        adamw(weight_decay=-0.1)
