import torch

from funpipe.tracing import trace

PARAMS = {"w": torch.ones(3, 3)}
X = torch.ones(4, 3)


def forward_of(loss):
    return [str(n.target).removeprefix("aten.") for n in trace(loss, PARAMS, X).forward]


def test_identities_are_gone():
    assert forward_of(lambda p, x: (x.detach() @ p["w"].clone()).contiguous().sum()) == ["mm.default", "sum.default"]


def test_a_clone_with_other_strides_stays():
    assert "clone.default" in forward_of(lambda p, x: (x.t().contiguous().t() @ p["w"]).sum())


def test_dead_nodes_are_gone():
    assert forward_of(lambda p, x: (x.exp(), (x @ p["w"]).sum())[1]) == ["mm.default", "sum.default"]


def test_leaves_are_named_by_kind_and_path():
    traced = trace(
        lambda p, b: (b["a"][0] @ p["layers"][1]["w"]).sum(), {"layers": [{}, PARAMS]}, {"a": [X], "unread": X}
    )
    assert list(traced.leaves) == [("param", "layers.1.w"), ("batch", "a.0")]
    assert [n.name for n in traced.leaves.values()] == ["param_layers_1_w", "batch_a_0"]
