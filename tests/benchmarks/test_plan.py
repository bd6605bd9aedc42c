from tests.benchmarks import plan
from tests.benchmarks.cases import Transformer

STEPS = ["trace", "cut", "partition", "lower", "optimize", "verify", "digest", "all"]


def test_each_step_of_a_plan_is_timed():
    times = plan.planned(Transformer(width=8, blocks=2, sequence=4, heads=2, microbatches=2), ranks=2)
    assert list(times) == STEPS
    assert times["all"] == sum(times[name] for name in STEPS[:-1])


def test_the_report_has_the_ratios_of_blocks_and_of_microbatches(capsys):
    times = {(b, m): dict.fromkeys(STEPS, float(b * m)) for b in (4, 24) for m in (8, 64)}
    plan.report(times)
    rows = capsys.readouterr().out.splitlines()
    assert rows[-2].split() == [*"24 blocks / 4".split(), *["6.00"] * len(STEPS)]
    assert rows[-1].split() == [*"64 microbatches / 8".split(), *["8.00"] * len(STEPS)]
