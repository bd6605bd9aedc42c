"""A cast of the batch runs where it is first read."""

import torch

from funpipe.functional.precision import bf16
from funpipe.tracing import trace


def loss_fn(params, batch):
    h = torch.tanh(batch["x"] @ params["w"])
    return ((h - batch["y"]) * (batch["y"] + batch["late"])).float().mean()


def names_of(precision):
    leaf = torch.ones(3, 3)
    traced = trace(loss_fn, {"w": leaf}, {"x": leaf, "y": leaf, "late": leaf}, precision=precision)
    reads = {node: [n.name for n in node.all_input_nodes] for node in traced.forward}
    return [next(iter(reads[n]), "") if "_to_copy" in n.name else str(n.target) for n in traced.forward]


def test_each_cast_stands_in_front_of_its_first_reader():
    names = names_of(bf16)
    assert names[:4] == ["batch_x", "aten.mm.default", "aten.tanh.default", "batch_y"]
    assert names.index("batch_late") == names.index("aten.add.Tensor") - 1


def test_without_a_policy_there_are_no_casts():
    assert not [name for name in names_of(None) if name.startswith("batch")]
