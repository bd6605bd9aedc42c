import torch

from funpipe import _compat
from funpipe.tracing.called import Called, difference_text, tensors

MODE = _compat.fake_mode()
with MODE:
    LEAF, OTHER = torch.ones(2), torch.ones(2)


def test_tensors_of_a_run_are_numbered_as_they_come():
    one, other = Called([LEAF]), Called([OTHER])
    assert one.add("op", (LEAF, 1.0, [2, None]), {"dim": 0}) == other.add("op", (OTHER, 1.0, [2, None]), {"dim": 0})
    assert one.add("op", (LEAF,), {}) != one.add("op", (OTHER,), {})


def test_what_is_made_of_a_leaf_varies():
    called = Called([LEAF])
    with MODE:
        made, constant = LEAF * 2, torch.zeros(2)
    called.returns([made], (LEAF, 2))
    called.returns(constant, (2,))
    assert called.varies(LEAF) and called.varies(made) and not called.varies(constant)


def test_tensors_of_other_runs_are_unknown_once():
    called = Called([LEAF])
    called.add("op", (OTHER,), {})
    assert [id(t) for t in called.unknown] == [id(OTHER)]
    called.add("op", (OTHER, LEAF), {})
    assert called.unknown == []


def test_small_real_tensors_are_compared_by_value_and_not_a_number_is_itself():
    called = Called([])
    assert called.add("op", (torch.ones(2),), {}) == called.add("op", (torch.ones(2),), {})
    assert called.add("op", (torch.ones(2),), {}) != called.add("op", (torch.zeros(2),), {})
    assert called.add("op", (float("nan"),), {}) == called.add("op", (float("nan"),), {})


def test_tensors_in_nested_lists_are_found():
    assert [id(t) for t in tensors(([LEAF], 1, (OTHER,)))] == [id(LEAF), id(OTHER)]


def test_the_first_difference_is_named():
    assert difference_text(("add", 1), ("mul", 1)) == "add is called once and mul the next time"
    assert difference_text(("add", (1, 2)), ("add", (1, 3))) == "add is given 2 once and 3 the next time"
