"""The benchmark of sums between ranks: its command line, its report, and one short run."""

import pytest

from tests.benchmarks import reduce
from tests.benchmarks.reduce import SIZES, Timed


def test_it_takes_all_that_can_be_told():
    assert reduce.parse([]).sizes == list(SIZES)
    given = reduce.parse("--ranks 3 --what all_gather --sizes 64 128 --pairs 5".split())
    assert (given.ranks, given.what, given.sizes, given.pairs) == (3, "all_gather", [64, 128], 5)


def test_the_report_has_a_line_for_each_size():
    text = Timed({2**20: [0.001, 0.002, 0.003]}, {2**20: [0.004, 0.004, 0.006]}).as_text("all_reduce", 2)
    head, line = text.splitlines()
    assert head.startswith("all_reduce, 2 ranks on ")
    assert " ".join(line.split()) == (
        "1.00 MiB funpipe 2.00 (1.20 to 2.80) gloo 4.00 (4.00 to 5.60) gloo / funpipe 2.0 (2.0 to 3.6)"
    )


@pytest.mark.full
@pytest.mark.parametrize("what", ["all_reduce", "all_gather", "reduce_scatter"])
def test_it_runs(what):
    assert "4.00 MiB" in reduce.main(["--what", what, "--sizes", str(2**22), "--pairs", "2"])
