import pytest
import torch
from torch import nn

from funpipe._errors import FunpipeTypeError, StageError
from funpipe.functional import functionalize
from funpipe.stages import partition, split_at
from funpipe.tracing import trace
from tests.tracing.gpt import gpt


@pytest.fixture(scope="module")
def traced():
    return trace(*gpt(blocks=12))


def paths(traced, cut):
    return [n.meta["path"] for n in traced.forward[cut - 1 : cut + 1]]


def test_the_beginning_of_a_module(traced):
    (cut,) = split_at({"layers.4": "beginning"})(traced)
    assert paths(traced, cut) == ["layers.3", "layers.4.norm1"]


def test_the_end_of_a_module(traced):
    (cut,) = split_at({"layers.4": "end"})(traced)
    assert paths(traced, cut) == ["layers.4", "layers.5.norm1"]


def test_layer_1_is_not_layer_10(traced):
    (cut,) = split_at({"layers.1": "end"})(traced)
    assert paths(traced, cut) == ["layers.1", "layers.2.norm1"]


def test_a_module_that_only_holds_others(traced):
    assert split_at({"layers": "beginning"})(traced) == split_at({"layers.0": "beginning"})(traced)


def test_points_in_any_order(traced):
    points = {"layers.8": "beginning", "layers.4": "beginning"}
    assert split_at(points)(traced) == tuple(sorted(split_at(points)(traced)))
    assert len(partition(traced, split_at(points)(traced))) == 3


def test_no_points_are_no_cuts(traced):
    assert split_at({})(traced) == ()


def test_a_module_called_twice_ends_after_its_last_call():
    module = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    module.forward = lambda x: module["a"](module["b"](module["a"](x))).tanh()
    apply, params, _ = functionalize(module)
    traced = trace(lambda p, x: apply(p, {}, x)[0].sum(), params, torch.ones(4, 3))
    assert paths(traced, *split_at({"a": "end"})(traced)) == ["a", ""]


def test_an_unknown_module_comes_with_the_nearest(traced):
    with pytest.raises(StageError, match=r"'layer.4', which is unknown or was never called; .* 'layers.4'.*use one"):
        split_at({"layer.4": "beginning"})(traced)


def test_a_module_that_was_never_called():
    module = nn.ModuleDict({"used": nn.Linear(3, 3), "unused": nn.Linear(3, 3)})
    module.forward = lambda x: module["used"](x)
    apply, params, _ = functionalize(module)
    traced = trace(lambda p, x: apply(p, {}, x)[0].sum(), params, torch.ones(4, 3))
    with pytest.raises(StageError, match=r"'unused', which is unknown or was never called; .* are 'used'; use one"):
        split_at({"unused": "end"})(traced)


def test_a_module_without_operations():
    apply, params, _ = functionalize(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.0), nn.Linear(3, 3)))
    traced = trace(lambda p, x: apply(p, {}, x)[0].sum(), params, torch.ones(4, 3))
    with pytest.raises(StageError, match=r"'1', which was called but left no operations .* cut at the module before"):
        split_at({"1": "end"})(traced)


def test_a_loss_function_without_modules():
    traced = trace(lambda p, x: (x @ p).sum(), torch.ones(3, 3), torch.ones(4, 3))
    with pytest.raises(StageError, match=r"calls no module; mark the ends of stages with fp.mark_stage_end\(x\), or"):
        split_at({"head": "beginning"})(traced)


def test_a_cut_at_the_very_beginning(traced):
    with pytest.raises(StageError, match=r"the beginning of 'words' lies before the first operation .* Remove it\."):
        split_at({"words": "beginning"})(traced)


def test_a_cut_at_the_very_end():
    apply, params, _ = functionalize(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1), nn.Flatten(0)))
    traced = trace(lambda p, x: apply(p, {}, x)[0][0], params, torch.ones(4, 3))
    with pytest.raises(StageError, match=r"the end of '1' lies after the last operation .* last stage would be empty"):
        split_at({"1": "end"})(traced)


def test_two_points_that_are_one_cut(traced):
    with pytest.raises(
        StageError,
        match=r"the end of 'layers.3' and the beginning of 'layers.4' give the same cut: .* Remove one of the two\.",
    ):
        split_at({"layers.3": "end", "layers.4": "beginning"})(traced)


def test_another_point():
    with pytest.raises(StageError, match=r"the point 'middle' for 'layers.4'; use 'beginning' or 'end'\."):
        split_at({"layers.4": "middle"})  # type: ignore[dict-item]


def test_no_mapping():
    with pytest.raises(FunpipeTypeError, match=r"split_at got \['layers.4'\]; pass a dict from module paths"):
        split_at(["layers.4"])  # type: ignore[arg-type]


def test_a_path_that_is_no_string():
    with pytest.raises(FunpipeTypeError, match=r"the module path 4; pass a str, such as 'layers.4'\."):
        split_at({4: "end"})  # type: ignore[dict-item]


def test_it_is_a_value():
    assert split_at({"a": "end"}) == split_at({"a": "end"}) and hash(split_at({"a": "end"}))
    assert repr(split_at({"a": "end"})) == "SplitAt(points=(('a', 'end'),))"
