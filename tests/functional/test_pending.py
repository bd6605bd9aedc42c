"""A pending state can be passed on, and nothing else."""

import copy
import io
import pickle

import optree
import pytest
import torch

import funpipe as fp
from funpipe._errors import BatchError, RotateError, TreeError
from funpipe.functional import Clean, Pending, named_leaves

FLUSH = (
    r"the update of 'w' and 1 more leaves is still open: flush this Pending state first, as in clean = rotated\.flush"
)


def pending():
    return Pending({"state.v": torch.ones(1)}, {"carry.g": torch.zeros(1)}, ("w", "m"))


@pytest.mark.parametrize(
    "use",
    [
        lambda p: p.state,
        lambda p: p.params,
        lambda p: p.state_dict(),
        lambda p: p["w"],
        lambda p: list(p),
        lambda p: len(p),
        lambda p: {**p},
        lambda p: pickle.dumps(p),
        lambda p: copy.deepcopy(p),
        lambda p: torch.save({"state": p}, io.BytesIO()),
    ],
)
def test_reading_copying_and_saving_say_to_flush(use):
    with pytest.raises(RotateError, match=FLUSH):
        use(pending())


def test_a_checkpoint_says_to_flush(tmp_path):
    for saved in (pending(), {"state": pending()}):
        with pytest.raises(fp.FunpipeError, match=FLUSH):
            fp.checkpoint.save(tmp_path / "last", saved)
    assert not (tmp_path / "last").exists()


def test_a_tree_of_it_says_to_flush():
    for tree in (pending(), {"state": pending()}):
        with pytest.raises(fp.FunpipeError, match=FLUSH):
            named_leaves(tree)


def test_it_is_one_leaf_and_prints():
    found = pending()
    assert optree.tree_leaves({"a": found}) == [found]
    assert repr(found) == "Pending(2 leaves open, 1 values carried)"
    assert found and not hasattr(found, "__tensor_flatten__")


def test_it_is_taken_once():
    found = pending()
    with found.taken() as values:
        assert list(values) == ["state.v", "carry.g"]
    with (
        pytest.raises(RotateError, match=r"use the state that came out, as in state, aux = rotated\.step"),
        found.taken(),
    ):
        pass


@pytest.mark.parametrize(("error", "is_used"), [(BatchError, False), (TreeError, False), (KeyboardInterrupt, True)])
def test_what_refuses_it_before_anything_ran_leaves_it_usable(error, is_used):
    found = pending()
    with pytest.raises(error), found.taken():
        raise error
    if is_used:
        with pytest.raises(RotateError, match="went into a step or a flush before"):
            found.require_unused()
    else:
        found.require_unused()


def test_a_clean_state_is_what_it_holds():
    assert Clean({"w": 1}).state == {"w": 1}
    assert pickle.loads(pickle.dumps(Clean({"w": 1}))).state == {"w": 1}
