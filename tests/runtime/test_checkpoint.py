"""Checkpoints of one process; those of more are in test_distributed.py."""

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from funpipe._errors import CheckpointError
from funpipe.functional import Clean, Pending
from funpipe.runtime import checkpoint, folders


def state(value):
    """A state with every kind of leaf."""
    return {
        "params": {"layers.0.weight": torch.full((2, 3), value).t(), "scale": torch.tensor(value)},
        "adam": {"mu": {"layers.0.weight": torch.full((3, 2), value, dtype=torch.bfloat16)}},
        "step": int(value),
        "lr": value / 2,
        "name": "run",
    }


def test_a_state_comes_back_with_its_types(tmp_path):
    checkpoint.save(tmp_path / "a", state(3.0))
    template = state(0.0)
    loaded = checkpoint.load(tmp_path / "a", template)
    assert loaded["step"] == 3 and loaded["lr"] == 1.5 and loaded["name"] == "run"
    weight = loaded["params"]["layers.0.weight"]
    assert torch.equal(weight, torch.full((3, 2), 3.0)) and weight.stride() == (1, 3)
    assert loaded["adam"]["mu"]["layers.0.weight"].dtype is torch.bfloat16
    assert template["params"]["scale"].item() == 0.0 and template["step"] == 0


def test_other_tools_read_the_original_names(tmp_path):
    checkpoint.save(tmp_path / "a", state(3.0))
    dcp_to_torch_save(tmp_path / "a", tmp_path / "file.pt")
    read = torch.load(tmp_path / "file.pt", weights_only=True)
    assert read["params"]["scale"].item() == 3.0 and set(read["params"]) == {"layers.0.weight", "scale"}


def test_a_view_of_a_bucket_is_saved_without_the_bucket(tmp_path):
    checkpoint.save(tmp_path / "a", {"leaf": torch.zeros(2**20)[:4]})
    assert sum(file.stat().st_size for file in (tmp_path / "a").iterdir()) < 2**16


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (
            {"params": {"scal": torch.tensor(0.0)}},
            "has no leaf 'params.scal', only 6 .* params.scale.*that were saved$",
        ),
        (
            {"params": {"scale": torch.zeros(2)}},
            r"'params.scale' is torch.float32 \[\] in .* torch.float32 \[2\] here; ",
        ),
        (
            {"params": {"scale": torch.tensor(0)}},
            r"'params.scale' is torch.float32 \[\] in .* but torch.int64 \[\] here",
        ),
        ({"step": torch.tensor(0)}, r"'step' is a plain value in .* build the model and optimizer as they were saved$"),
        ({"step": [1]}, "leaf 'step' is a list; save tensors and plain values in nested dicts$"),
        ({3: 1}, "key 3 under 'the top' is no string; use strings as names$"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, template, text):
    checkpoint.save(tmp_path / "a", state(3.0))
    with pytest.raises(CheckpointError, match=text):
        checkpoint.load(tmp_path / "a", template)


def test_two_leaves_of_one_name_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(CheckpointError, match="two leaves are named 'a.b'; rename a key"):
        checkpoint.save(tmp_path / "a", {"a.b": 1, "a": {"b": 2}})
    assert list(tmp_path.iterdir()) == []


def test_a_pending_state_says_to_flush_it(tmp_path):
    pending = Pending({}, {}, ("params.w",))
    for saved in (pending, {"state": pending}):
        with pytest.raises(CheckpointError, match=r"'params.w' is still open: .*, and read clean.state\.$"):
            checkpoint.save(tmp_path / "a", saved)
    with pytest.raises(CheckpointError, match="the state dict is a Clean; save nested dicts .* of a Clean one$"):
        checkpoint.save(tmp_path / "a", Clean({"w": 1.0}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["absent", "empty"])
def test_no_checkpoint(tmp_path, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=f"no complete checkpoint at .*{path}; give the folder that save wrote"):
        checkpoint.load(tmp_path / path, {"step": 0})


class Interrupted(BaseException):
    """Stands for a process that ends here."""


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_an_interrupted_save_never_loses_the_previous_checkpoint(tmp_path, monkeypatch, renames):
    path = tmp_path / "step-1"
    checkpoint.save(path, state(1.0))
    done, original = [], type(path).rename

    def rename(self, target):
        if self.is_dir():  # torch renames a file of its own
            if len(done) == renames:
                raise Interrupted
            done.append(target)
        return original(self, target)

    def rmtree(folder):
        raise Interrupted

    monkeypatch.setattr(type(path), "rename", rename)
    monkeypatch.setattr(folders.shutil, "rmtree", rmtree)
    with pytest.raises(Interrupted):
        checkpoint.save(path, state(2.0))
    monkeypatch.undo()
    assert checkpoint.latest(tmp_path) == path
    assert checkpoint.load(path, {"step": 0}) == {"step": 2 if renames == 2 else 1}
    checkpoint.save(path, state(3.0))
    assert checkpoint.load(path, {"step": 0}) == {"step": 3}
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-1"]


def test_a_save_that_fails_while_writing_leaves_the_previous_checkpoint(tmp_path):
    checkpoint.save(tmp_path / "a", {"step": 1})
    unwritable = torch.empty(2, device="meta")
    with pytest.raises(CheckpointError, match="check the folder, its rights and free space$"):
        checkpoint.save(tmp_path / "a", {"step": 2, "leaf": unwritable})
    assert checkpoint.load(tmp_path / "a", {"step": 0}) == {"step": 1}


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "a").write_text("notes")
    with pytest.raises(CheckpointError, match="is a file; a checkpoint is a folder, choose another path$"):
        checkpoint.save(tmp_path / "a", {"step": 1})
    with pytest.raises(CheckpointError, match="a/b: FileExistsError: .* check the folder, its rights and free space$"):
        checkpoint.save(tmp_path / "a" / "b", {"step": 1})


def test_latest_counts_complete_folders_only(tmp_path):
    assert checkpoint.latest(tmp_path / "none") is None
    for step in (2, 10):
        checkpoint.save(tmp_path / f"step-{step}", {"step": step})
    (tmp_path / "step-11").mkdir()
    (tmp_path / ".step-12.incomplete").mkdir()
    (tmp_path / "step-x").mkdir()
    assert checkpoint.latest(tmp_path) == tmp_path / "step-10"
