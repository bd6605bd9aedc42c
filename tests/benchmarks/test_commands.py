"""Command lines, and what they are turned into."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.benchmarks import cold, gpu, makespan, memory, peers, pipelining, step, subject
from tests.benchmarks.compare import Results
from tests.benchmarks.memory import Memory
from tests.benchmarks.processes import environment
from tests.benchmarks.report import as_text
from tests.benchmarks.subject import Subject


def test_a_step_is_small_on_one_device_unless_told_otherwise():
    run = step.parse([])
    assert (run.options.ranks, run.options.backend, run.options.numerics, run.options.schedule) == (
        1,
        "step",
        "exact",
        "1f1b",
    )
    assert run.repeats == run.case.repeats


def test_a_step_takes_all_that_can_be_told():
    words = "--ranks 2 --case medium --pairs 3 --repeats 4 --numerics fast --schedule gpipe --backend regions"
    run = step.parse(words.split())
    assert (run.options.ranks, run.options.numerics, run.options.schedule) == (2, "fast", "gpipe")
    assert (run.case.width, run.pairs, run.repeats, run.options.backend) == (256, 3, 4, "regions")


def test_a_gpu_is_for_one_device(capsys):
    with pytest.raises(SystemExit):
        step.parse(["--device", "cuda", "--ranks", "2"])
    assert "leave --ranks out" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(capsys):
    with pytest.raises(SystemExit):
        step.parse(["--device", "cuda"])
    assert "needs a GPU, and torch sees none" in capsys.readouterr().err


def test_the_makespan_is_of_two_ranks_and_medium():
    run = makespan.parse([])
    assert (run.options.ranks, run.case.width) == (2, 256)


def test_a_subject_survives_its_command_line():
    there = Subject("pipelining-compiled", "many", 24, 64, 2, "gpipe", "regions", "fast")
    assert subject.parse(there.words()) == there


def test_every_cold_row_but_the_warm_one_has_two_sides():
    ours = Subject("funpipe")
    sides = {row: cold.pairs_of(row, ours) for row in cold.ROWS if row != "warm"}
    assert sides["peer"][0].ranks == 2
    assert [s.name for s in sides["jax"][1]] == ["jax-whole", "jax-scanned"]
    assert all(top != bottom for top, bottoms in sides.values() for bottom in bottoms)


def test_an_unknown_cold_row_is_an_error(capsys):
    with pytest.raises(SystemExit):
        cold.parse(["blocs"])
    assert "there is no row 'blocs': name some of peer, blocks" in capsys.readouterr().err


def test_a_process_of_its_own_has_its_own_caches():
    alone, second = environment(Path("/c"), 0, 1, 1), environment(Path("/c"), 1, 2, 99)
    assert alone["TORCHINDUCTOR_CACHE_DIR"] == str(Path("/c/inductor"))
    assert (second["RANK"], second["WORLD_SIZE"], second["MASTER_PORT"]) == ("1", "2", "99")


def test_memory_prints_both_ratios():
    text = memory.as_text(Memory(60, 40, 80), Memory(100, 100, None))
    assert "peak / eager peer: 0.50" in text and "peak / predicted" in text and "1.25" in text
    assert memory.parse(["--ranks", "2"]) == Subject("funpipe", ranks=2)


def test_fast_is_measured_beside_exact(monkeypatch):
    """Against the same peers, in the same run."""
    monkeypatch.setattr(peers, "jax_peers", lambda *args: [])
    words = ["--fast-too", "--only", "eager", "--pairs", "2", "--repeats", "1", "--backend", "interpret"]
    run = step.parse(words)
    results = step.measure(replace(run, case=gpu.tiny(run.case)))
    assert list(results.first) == ["funpipe", "funpipe, fast", "eager, whole batch", "eager, microbatches"]
    text = as_text(results)
    assert len([line for line in text.splitlines() if line.endswith("<- the fastest")]) == 2
    assert "\nfunpipe / eager" in text and "\nfunpipe, fast / eager" in text


def test_the_table_of_a_gpu_runs_through_on_the_cpu(monkeypatch, capsys):
    monkeypatch.setattr(peers, "jax_peers", lambda *args: [])
    gpu.main(gpu.parse("--device cpu --tiny --only eager --pairs 2 --backend interpret".split()))
    head, _, medium, gpt2 = capsys.readouterr().out.splitlines()[-4:]
    assert head == "| case | funpipe | the fastest peer | ratio | target |"
    assert medium.startswith("| medium | ") and " ms | eager, " in medium and medium.endswith(" | 0.95 |")
    assert gpt2.startswith("| gpt2 | ") and gpt2.endswith(" | 1.0 |")


def test_the_cases_of_a_gpu_are_gpt2_in_half_precision_and_a_width_of_256():
    table = gpu.parse(["--device", "cpu"])
    assert (table.runs["medium"].case.width, table.runs["gpt2"].case.width) == (256, 768)
    assert table.runs["gpt2"].case.dtype == torch.bfloat16
    assert all(run.fast_too and run.options.device == "cpu" for run in table.runs.values())


def test_without_peers_a_row_says_so():
    results = Results({"funpipe": 1.0}, {}, {"funpipe": [0.1, 0.2]})
    assert "| medium | | no peer was measured | | 0.95 |" in gpu.rows({"medium": results})


def test_a_ratio_is_to_the_fastest_peer():
    times = {"funpipe": [0.1, 0.1], "funpipe, fast": [0.05, 0.05], "slow": [1.0, 1.0], "quick": [0.2, 0.2]}
    text = gpu.rows({"medium": Results(dict.fromkeys(times, 1.0), {}, times)})
    assert "| medium | 100.00 ms | quick, 200.00 ms | 0.50 (0.50 to 0.50) | 0.95 |" in text
    assert "| medium, fast | 50.00 ms | quick, 200.00 ms | 0.25 (0.25 to 0.25) | 0.95 |" in text


def test_the_drop_in_layer_is_measured_with_every_backend():
    run = pipelining.parse("--case mlp --pairs 3 --only native".split())
    assert (run.case.width, run.pairs, run.repeats, run.only) == (128, 3, run.case.repeats, "native")
    names = [peer.name for backend in run.backends for peer in pipelining.layers(run.case, backend)]
    assert names == ["funpipe layer, regions", "funpipe layer, step", "funpipe layer, step, optimizer"]
