"""The function that a file names."""

import sys
import types

import pytest
import torch

from funpipe._errors import PlanError
from funpipe.planning.made_by import made_by
from tests.planning.models import chain


@pytest.fixture
def mine(monkeypatch):
    module = types.ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", module)
    return module


def test_it_is_called_on_the_meta_device(mine):
    mine.model = lambda width: (len, torch.ones(width, width), torch.ones(1))
    assert made_by("mine:model", {"width": 3})[1].is_meta
    assert len(made_by("tests.planning.models:chain", {"layers": 2})[1]) == len(chain(2)[1])


def test_what_it_raises_is_said_with_the_line(mine):
    def model():
        raise KeyError("weights")

    mine.model = model
    with pytest.raises(
        PlanError, match=r"'mine:model' raised KeyError at .*test_made_by\.py:\d+: .*: 'weights'\. Corr"
    ):
        made_by("mine:model", {})


def test_a_type_error_inside_is_not_one_of_the_arguments(mine):
    mine.model = lambda: len(3)
    with pytest.raises(PlanError, match="raised TypeError at .*has no len"):
        made_by("mine:model", {})


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("raise RuntimeError('no GPU')", r"cannot be imported: RuntimeError at .*broken\.py:1: .*no GPU\. Correct"),
        ("def (", r"cannot be imported: SyntaxError: invalid syntax \(broken\.py, line 1\)\. Correct"),
    ],
)
def test_a_module_that_cannot_be_imported(tmp_path, monkeypatch, content, text):
    (tmp_path / "broken.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PlanError, match=text):
        made_by("broken:model", {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("math:tau", "is no function but float"),
        (".mine:model", "is a relative name; write all of it"),
        ("tests.planning.models:cluster", r"returned Cluster; return \(loss_fn, params, batch\)"),
        ("os.path:splitdrive", "arguments = {} do not fit os.path:splitdrive: missing"),
    ],
)
def test_what_is_not_such_a_function(name, text):
    with pytest.raises(PlanError, match=text):
        made_by(name, {})


def test_a_tuple_of_something_else_is_named(mine):
    mine.model = lambda: (1, 2, 3)
    with pytest.raises(PlanError, match=r"mine:model returned \(int, int, int\); return"):
        made_by("mine:model", {})
