"""The usual passes, one after the other."""

from pathlib import Path

import pytest
import torch

from funpipe.interop.spmd.gm_transformation import GraphModuleTransformation
from funpipe.interop.spmd.rewriting import dump
from tests.interop.spmd.traced_steps import batches, fold, initial, traced

GM = traced(2)


def equal(module, count=3):
    plain = fold(lambda *flat, last_iter=False: GM(*flat), initial(2), batches(count))
    ours = fold(module, initial(2), batches(count))
    return all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


def starts(module):
    return [n.name for n in module.graph.nodes if n.name.startswith("all_reduce")]


def test_nothing_is_asked_for():
    module = GraphModuleTransformation()(GM)
    assert starts(module) == ["all_reduce", "all_reduce_1", "all_reduce_2", "all_reduce_3"]
    assert module.graph.frozen and equal(module)


def test_graph_optimization_works_any_number_of_times_in_a_process():
    for _ in range(2):
        module = GraphModuleTransformation(enable_graph_optimization=True)(GM)
        assert starts(module) == ["all_reduce_default"] and equal(module)


def test_the_given_module_is_left_alone():
    before = str(GM.graph)
    GraphModuleTransformation(enable_graph_optimization=True)(GM)
    assert str(GM.graph) == before


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_graphs_are_dumped(temporary: Path):
    GraphModuleTransformation(enable_graph_optimization=True, dump_graphs=True)(GM)
    (folder,) = temporary.iterdir()
    passes = ("comm_fusion_with_concat", "schedule_comm_wait", "remove_copy_from_optimizer")
    parts = ("setup", "main", "cleanup")
    assert {file.name for file in folder.iterdir()} == {
        "before_transformation_gm.graph",
        *(f"after_{name}_{part}_gm.graph" for name in passes for part in parts),
        *(f"iter_graph_{part}_gm.graph" for part in parts),
    }
    assert "all_reduce_default" not in (folder / "before_transformation_gm.graph").read_text()
    assert "all_reduce_default" in (folder / "iter_graph_main_gm.graph").read_text()


def test_one_dump_does_not_have_later_passes_dump(temporary: Path):
    GraphModuleTransformation(dump_graphs=True)(GM)
    GraphModuleTransformation(enable_graph_optimization=True)(GM)
    (folder,) = temporary.iterdir()
    assert len(list(folder.iterdir())) == 4 and dump._folder.get() == ""


def test_settings_are_named():
    with pytest.raises(TypeError, match="positional argument"):
        GraphModuleTransformation(True)
