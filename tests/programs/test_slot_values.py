import torch

from funpipe.optim import adafactor, adam, multi_transform, muon
from funpipe.programs.layout import Bucket, Slot
from funpipe.programs.slot_values import by_leaf, named_for, of_leaves, parts_of, slot_types, slots_of, split_name

LEAVES = (Slot("a", 0, (2, 3)), Slot("b.c", 16, (4, 2)))
FLAT = Bucket("s0_float32", 0, torch.float32, None, LEAVES, 32)
WHOLE = Bucket("s0_float32", 0, torch.float32, ("matrix", None), LEAVES, 32, "leaf")


def test_an_elementwise_update_has_flat_slots():
    types = slot_types(adam(), FLAT, "cpu")
    assert {name: kind.shape for name, kind in types.items()} == {"m": (32,), "v": (32,)}


def test_an_update_of_leaves_has_slots_of_each():
    types = slot_types(adafactor(), WHOLE, "cpu")
    assert {name: kind.shape for name, kind in types.items()} == {
        "col_var:a": (1, 3),
        "col_var:b.c": (1, 2),
        "row_var:a": (2, 1),
        "row_var:b.c": (4, 1),
    }


def test_first_slots_are_those_of_the_leaves():
    bucket = Bucket("s0_float32", 0, torch.float32, ("muon", None), LEAVES, 32, "leaf")
    optimizer = multi_transform({"muon": muon()}, {"*": "muon"})
    found = slots_of(optimizer, bucket, torch.ones(32))
    assert {name: tuple(t.shape) for name, t in found.items()} == {"momentum:a": (2, 3), "momentum:b.c": (4, 2)}


def test_names_are_told_apart():
    assert split_name("slot.1.m.s0_float32") == ("1.m", "s0_float32")
    assert split_name("slot.0.momentum:layers.0.w.s1_float32_1") == ("0.momentum:layers.0.w", "s1_float32_1")
    assert named_for(("m:a", "m:b.c", "v:a", "v:b.c"), LEAVES[1:]) == ["m:b.c", "v:b.c"]


def test_leaves_of_a_slot():
    flat = torch.arange(32.0)
    found = list(by_leaf(FLAT, "m", flat))
    assert [(path, leaf, tuple(t.shape)) for path, leaf, t in found] == [("m", "a", (2, 3)), ("m", "b.c", (4, 2))]
    assert list(by_leaf(WHOLE, "m:b.c", flat)) == [("m", "b.c", flat)]


def test_leaves_come_back_to_one_buffer():
    flat = torch.zeros(32)
    leaves = {slot.leaf: torch.full(slot.shape, i + 1.0) for i, slot in enumerate(LEAVES)}
    for slot in LEAVES:
        slot.view(flat).copy_(leaves[slot.leaf])
    assert torch.equal(of_leaves(leaves, FLAT), flat)


def test_parts_are_updated_alone_or_all_at_once():
    assert parts_of(WHOLE) == [LEAVES[:1], LEAVES[1:]]
    assert parts_of(Bucket("s0_float32", 0, torch.float32, None, LEAVES, 32, "tree")) == [LEAVES]
