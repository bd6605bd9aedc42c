"""`plan`, its plans, and what they print."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import BatchError, FunpipeTypeError, PlanError
from tests.planning.models import chain, cluster, gpt


def planned(model=None, on=None, **changes):
    settings = {"global_batch": 16, "rows": (2, 4), "schedules": ["1f1b", "gpipe", "interleaved1f1b"], **changes}
    return fp.plan(*(model or chain()), cluster=on or cluster(), **settings)


def test_plans_are_ranked():
    times = [plan.seconds for plan in planned()]
    assert times == sorted(times)
    assert len(times) == len(planned()) == 10


def test_nothing_is_made_of_meta_tensors_but_numbers():
    for plan in planned(top=3):
        assert plan.candidate.pp * plan.candidate.dp == 2
        assert max(plan.memory) < 1e9
        assert 0 <= plan.bubble < 1


def real_problem():
    torch.manual_seed(0)

    def loss(params, x):
        for w in params:
            x = torch.tanh(x @ w)
        return x.square().mean()

    return loss, [torch.randn(8, 8) / 3 for _ in range(4)], torch.randn(16, 8)


def test_a_plan_goes_straight_into_a_step():
    loss, params, batch = real_problem()
    for plan in planned(real_problem(), pp=(2,), remat=("none", "full"), top=4):
        step = fp.train_step(loss, fp.optim.sgd(0.1), **{**plan.options, "mesh": None}, backend="interpret")
        _, metrics = step(step.init(params, batch), batch)
        assert float(metrics["loss"]) == pytest.approx(float(loss(params, batch)), rel=1e-5)
        assert len(step.lowered.stages) == plan.candidate.num_stages


def train_as_planned(options):
    loss, params, batch = real_problem()
    step = fp.train_step(loss, fp.optim.sgd(0.1), **options, backend="interpret")
    _, metrics = step(step.init(params, batch), batch)
    return step.setup.shape, float(metrics["loss"])


def test_with_its_mesh_on_two_ranks():
    loss, params, batch = real_problem()
    best = planned(real_problem(), pp=(2,))[0]
    for shape, found in fp.launch(train_as_planned, 2, best.options):
        assert shape == fp.MeshShape(2, 1)
        assert found == pytest.approx(float(loss(params, batch)), rel=1e-5)


def test_a_mesh_of_more_processes_than_there_are_is_an_error():
    with pytest.raises(fp.FunpipeError, match=r"mesh\(pp=2, dp=1\) needs pp \* dp = 2 processes, but there is 1"):
        fp.train_step(real_problem()[0], fp.optim.sgd(0.1), **planned(real_problem(), pp=(2,))[0].options)


def test_sharded_plans_are_a_forecast():
    plan = next(p for p in planned(shard=(3,), pp=(1,)) if p.candidate.shard == 3)
    with pytest.raises(PlanError, match=r"shard=3, and train_step does not shard yet: .*Plan with shard=\(0,\)"):
        _ = plan.options
    assert "3 (no run)" in planned(shard=(3,)).as_text()


def test_nothing_fits_because():
    plans = planned(on=cluster(memory=1e4))
    assert len(plans) == 0
    assert not plans
    with pytest.raises(PlanError, match=r"nothing fits, because .* needs 197 kB .* of 10 kB\. Use more or larger"):
        plans[0]
    assert "nothing fits, because" in str(plans)


def test_nothing_can_run_because():
    with pytest.raises(PlanError, match=r"nothing can run, because pp=1 dp=2: the global batch of 5 rows does not div"):
        planned(global_batch=5, pp=(1,))[0]


def test_memory_is_the_limit_where_more_of_it_would_be_faster():
    loose = planned(pp=(2,), rows=(4,), schedules=["1f1b"])
    full, plain = (next(p for p in loose if p.candidate.remat == remat) for remat in ("full", "none"))
    assert full.limit != "memory"
    tight = (max(full.memory) + max(plain.memory)) / 2
    (only,) = planned(on=cluster(memory=tight), pp=(2,), rows=(4,), schedules=["1f1b"])
    assert (only.candidate.remat, only.limit) == ("full", "memory")


def test_a_slow_network_is_the_limit_of_replicas():
    best = planned(on=cluster(links=1e3), pp=(1,))[0]
    assert best.limit == "communication"


def test_the_table_says_what_each_plan_is():
    lines = planned(on=cluster(memory=3e5)).as_text().splitlines()
    assert lines[0].split() == [
        *("step", "pp", "dp", "shard", "stages", "schedule", "microbatches", "remat", "bubble", "memory", "limit")
    ]
    assert len({line.index("remat") for line in lines[:1]}) == 1
    assert "fell out:" in lines
    assert any("kB on rank" in line and "of 300 kB" in line for line in lines[lines.index("fell out:") :])


def test_the_table_fits_a_terminal():
    plans = planned(on=cluster(memory=3e5))
    wide, narrow = plans.as_text(), plans.as_text(80)
    assert max(map(len, wide.splitlines())) > 80 >= max(map(len, narrow.splitlines()))
    assert sorted(narrow.split()) == sorted(wide.split())
    assert plans.as_text(1000) == wide


def test_the_column_of_stages_says_what_the_schedule_need_not():
    (line,) = (
        planned(pp=(2,), schedules=[fp.schedules.Interleaved1F1B(4)], top=1, rows=(2,)).as_text().splitlines()[1:2]
    )
    assert line.split()[6:9] == ["4", "Interleaved1F1B", "8"]


def test_a_notebook_shows_the_table():
    plans = planned(pp=(2,), top=1)
    assert plans._repr_html_() == f"<pre>{plans.as_text().replace('<', '&lt;')}</pre>"


def test_a_plan_shows_its_ranks():
    text = planned(pp=(2,))[0].as_text()
    assert text.splitlines()[2].split() == ["rank", "stages", "busy", "update", "reduce", "memory"]
    assert len(text.splitlines()) == 5


def test_a_model_of_many_layers_is_planned_from_few():
    choices = {"pp": (2,), "rows": (4,), "remat": ("none",), "schedules": ["1f1b"]}
    few, many = planned(gpt(5), layers=9, **choices), planned(gpt(9), **choices)
    assert few[0].seconds == pytest.approx(many[0].seconds, rel=0.1)
    step = fp.train_step(gpt(9)[0], fp.optim.sgd(0.1), **{**few[0].options, "mesh": None}, backend="interpret")
    assert len(step.trace(gpt(9)[1], gpt(9, rows=16)[2]).lower().stages) == few[0].candidate.num_stages


def test_measured_costs_may_depend_on_the_graph():
    asked = []

    def costs(traced):
        asked.append(traced.batch[""].shape[0])
        return fp.stages.Roofline(1e9, 1e9, 1e8)

    assert planned(costs=costs, pp=(2,), rows=(2, 4))
    assert sorted(asked) == [2, 4]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"global_batch": 0}, "global_batch is 0; pass an int of at least 1"),
        ({"layers": 0}, "layers is 0; pass an int of at least 1"),
        ({"top": 1.5}, "top is 1.5; pass an int"),
        ({"shard": (4,)}, "shard has 4; the stages of ZeRO are 0, 1, 2 and 3"),
        ({"schedules": []}, "schedules is empty; pass at least one"),
    ],
)
def test_arguments_that_cannot_be(changes, text):
    with pytest.raises(PlanError, match=text):
        planned(**changes)


def test_a_number_is_no_cluster():
    with pytest.raises(FunpipeTypeError, match=r"cluster is of type int; pass fp.Cluster"):
        fp.plan(*chain(), cluster=2, global_batch=4)


def test_a_batch_without_a_batch_dimension_is_an_error():
    with pytest.raises(BatchError, match="nothing can be split; give it in batch_spec"):
        planned(batch_spec=None)
