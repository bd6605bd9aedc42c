"""Configuration files and the command line."""

import json
import sys

import pytest

from funpipe.__main__ import main
from funpipe._errors import PlanError
from funpipe.planning import plan_file

TOML = """
model = "tests.planning.models:gpt"
arguments = { blocks = 5 }
global_batch = 16
layers = 9
rows = [2, 4]
schedules = ["1f1b"]
remat = ["none"]
optimizer = "sgd"

[cluster]
devices = 4
flops = 1e9
memory = 1e9
bandwidth = 1e9
links = { inside = 1e8, between = { bandwidth = 1e7, latency = 1e-5 }, node = 2 }
"""
READ = {
    "model": "tests.planning.models:chain",
    "global_batch": 16,
    "rows": [2, 4],
    "schedules": ["1f1b", "gpipe"],
    "cluster": {"devices": 2, "flops": 1e9, "memory": 1e9, "links": 1e8},
}


def written(folder, **changes):
    path = folder / "plan.json"
    path.write_text(json.dumps({k: v for k, v in {**READ, **changes}.items() if v is not None}))
    return path


def test_json(tmp_path):
    plans = plan_file(written(tmp_path, top=3))
    assert len(plans) == 3
    assert {plan.candidate.rows for plan in plans} <= {2, 4}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python reads TOML from 3.11 on")
def test_toml(tmp_path):
    (tmp_path / "plan.toml").write_text(TOML)
    plans = plan_file(tmp_path / "plan.toml")
    assert {plan.candidate.pp for plan in plans} == {1, 2, 4}
    assert sum(plans[0].cutter.counts) == 9


def test_without_a_reader_of_toml_json_is_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "plan.toml").write_text(TOML)
    monkeypatch.setattr("funpipe.planning.config.find_spec", lambda name: None)
    with pytest.raises(PlanError, match=r"is TOML, which Python reads from 3\.11 on; write the same keys as JSON"):
        plan_file(tmp_path / "plan.toml")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"modle": "x"}, "'modle' is no key; known are model, "),
        ({"cluster": None}, "'cluster' is missing; add it"),
        ({"cluster": {"devices": 2, "flops": 1e9}}, "cluster: 'memory' is missing; add it"),
        ({"cluster": {**READ["cluster"], "links": {"insid": 1}}}, "cluster.links: 'insid' is no key; known are inside"),
        ({"cluster": {**READ["cluster"], "links": "fast"}}, "links is 'fast'; write a number of bytes per second"),
        ({"model": "tests.planning.models"}, "is no function: .*Name one as 'module:function'"),
        ({"model": "no.such:thing"}, "is no function: No module named 'no'.*Name one as"),
        ({"model": "tests.planning.models:cluster"}, r"returned Cluster; return \(loss_fn, params, batch\)"),
        ({"optimizer": "lion"}, "optimizer = 'lion' is unknown; use one of adam, adamw, sgd"),
        ({"arguments": {"depth": 1}}, "arguments .* do not fit .*unexpected keyword"),
        ({"arguments": [1]}, r"arguments is \[1\]; write a table of keys"),
        ({"cluster": 5}, "cluster is 5; write a table of keys"),
        ({"optimizer": ["sgd"]}, "optimizer = .* is unknown; use one of adam"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, text):
    with pytest.raises(PlanError, match=text):
        plan_file(written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("plan.yaml", "", "is neither .toml nor .json; write"),
        ("plan.json", "{", r"plan\.json cannot be read: .*Correct it there"),
        ("plan.json", "[]", "holds no table of keys; write an object with model"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, text):
    (tmp_path / name).write_text(content)
    with pytest.raises(PlanError, match=text):
        plan_file(tmp_path / name)


def test_no_file(tmp_path):
    with pytest.raises(PlanError, match=r"there is no file .*none\.json; pass the path"):
        plan_file(tmp_path / "none.json")


def test_the_command_prints_the_table(tmp_path, capsys):
    assert main(["plan", str(written(tmp_path)), "--verbose"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[:2] == ["step", "pp"]
    assert "rank  stages" in out


def test_the_command_says_that_nothing_fits(tmp_path, capsys):
    assert main(["plan", str(written(tmp_path, cluster={**READ["cluster"], "memory": 1e3}))]) == 1
    assert "nothing fits, because" in capsys.readouterr().out


@pytest.mark.parametrize("changes", [{"global_batch": 5, "rows": None, "pp": [1]}, {"rows": [3]}])
def test_what_no_memory_would_help_is_a_mistake(tmp_path, capsys, changes):
    assert main(["plan", str(written(tmp_path, **changes))]) == 2
    assert capsys.readouterr().err.startswith("PlanError: nothing can run, because pp=1 dp=2: ")


def test_a_mistake_is_an_error_of_one_line(tmp_path, capsys):
    assert main(["plan", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.startswith("PlanError: there is no file")
