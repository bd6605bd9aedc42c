from dataclasses import dataclass
from types import MappingProxyType

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

from funpipe.interop.pipelining.hidden import holds_tensors

x = torch.ones(1)


@dataclass(slots=True)
class Slotted:
    value: object


class Plain:
    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize("leaf", [Slotted(x), Plain(x), MappingProxyType({"x": x}), frozenset([x])])
def test_tensors_among_attributes_and_items_are_seen(leaf):
    assert holds_tensors(leaf)


@pytest.mark.parametrize(
    "leaf", [x, None, 3, "word", Slotted(1), Plain("x"), object(), torch.float32, len, Plain, {}.items()]
)
def test_anything_else_holds_none(leaf):
    assert not holds_tensors(leaf)


def test_a_block_mask_holds_tensors():
    assert holds_tensors(create_block_mask(lambda b, h, q, kv: q >= kv, 1, None, 128, 128, device="cpu"))
