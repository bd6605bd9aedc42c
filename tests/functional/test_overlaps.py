"""Parameters that lie in the memory of other tensors are refused: they would drift apart in silence."""

import pytest
import torch
from torch import nn

from funpipe._errors import TreeError
from funpipe.functional import functionalize


def two_layers() -> nn.ModuleDict:
    return nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})


def test_parameters_that_share_data_are_refused_with_the_way_to_tie_them():
    module = two_layers()
    module["b"].weight.data = module["a"].weight.data
    with pytest.raises(TreeError, match=r"'a\.weight' and 'b\.weight' are two tensors .* not \.data\), or clone"):
        functionalize(module)
    module["b"].weight = module["a"].weight
    assert functionalize(module)[0].aliases == {"b.weight": "a.weight"}


@pytest.mark.parametrize("part", [lambda w: w[1], lambda w: w[:, 1], lambda w: w[::2, 1:3]])
def test_a_buffer_that_is_a_part_of_a_parameter_is_refused(part):
    module = nn.Linear(4, 4)
    module.register_buffer("part", part(module.weight.data))
    with pytest.raises(TreeError, match="'weight' and 'part'"):
        functionalize(module)
    functionalize(module.requires_grad_(False))  # nothing moves, so nothing drifts


def test_parts_of_one_buffer_that_do_not_overlap_are_none():
    flat = torch.zeros(40)
    module = two_layers()
    for i, p in enumerate((module["a"].weight, module["b"].weight)):
        p.data = flat[16 * i : 16 * i + 16].view(4, 4)
    module["a"].bias.data, module["b"].bias.data = flat[32:].view(4, 2).unbind(1)
    assert len(functionalize(module)[1]) == 4


def test_tensors_without_memory_are_none():
    with torch.device("meta"):
        assert len(functionalize(two_layers())[1]) == 4
