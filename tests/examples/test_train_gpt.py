"""The training script as a user runs it, small and uncompiled: it learns, goes on exactly, and stops cleanly."""

import ast
import importlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader

import funpipe as fp

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TINY = "--backend interpret --width 16 --layers 2 --heads 2 --context 16 --batch-size 8 --microbatches 2 --lr 0.02"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def command(*options):
    return [sys.executable, str(EXAMPLES / "train_gpt.py"), *TINY.split(), "--sample-bytes", "20", *map(str, options)]


def run(*options):
    done = subprocess.run(command(*options), env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def leaves(checkpoint):
    """Everything a checkpoint holds, by name."""
    stored = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    tensors = {n: torch.empty(m.size, dtype=m.properties.dtype) for n, m in stored.items() if hasattr(m, "size")}
    return fp.checkpoint.load(checkpoint, {**dict.fromkeys(stored), **tensors})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 20 steps on two ranks, with checkpoints at 8, 16 and 20: its folder and what it wrote."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, *run("--steps", 20, "--checkpoint-every", 8, "--checkpoint", folder)


@pytest.fixture
def module(monkeypatch):
    """Imports a file of the examples."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    yield importlib.import_module
    for name in names & sys.modules.keys():
        del sys.modules[name]


def test_the_model_is_a_plain_module():
    imported = [
        n for n in ast.walk(ast.parse((EXAMPLES / "gpt.py").read_text())) if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    assert {getattr(n, "module", None) or n.names[0].name for n in imported} == {"torch", "torch.nn"}


def test_two_ranks_learn_and_report(finished):
    folder, out, err = finished
    held_out, bigram = map(float, re.search(r"held-out loss (\S+) nats a byte \(a bigram model: (\S+)\)", out).groups())
    assert held_out < math.log(256) - 1
    assert 2 < bigram < 2.6
    assert "rank 0 | 0F0 0F1 .   0B0 .   0B1\nrank 1 | .   1F0 1B0 1F1 1B1 .\n" in out
    assert "The " in out and f"checkpoint {folder / 'step-20'}" in out
    assert re.search(r"training: 100%.*tokens/s, loss=\d", err)
    assert sorted(path.name for path in folder.iterdir()) == ["step-16", "step-20", "step-8"]


def test_a_checkpoint_has_the_modules_own_names(finished, module):
    model = module("gpt").GPT(context=16, width=16, layers=2, heads=2)
    stored = leaves(finished[0] / "step-20")
    assert {f"params.{name}" for name, _ in model.named_parameters()} == {n for n in stored if n.startswith("params.")}


def test_a_resumed_run_ends_with_the_same_bits(finished, tmp_path):
    folder, out, _ = finished
    shutil.copytree(folder / "step-8", tmp_path / "step-8")
    resumed, _ = run("--steps", 20, "--checkpoint-every", 8, "--checkpoint", tmp_path, "--resume")
    ours, theirs = leaves(tmp_path / "step-20"), leaves(folder / "step-20")
    assert ours.keys() == theirs.keys()
    assert [
        n
        for n in ours
        if not (torch.equal(ours[n], theirs[n]) if isinstance(ours[n], torch.Tensor) else ours[n] == theirs[n])
    ] == []
    assert resumed == out.replace(str(folder), str(tmp_path))


def test_ctrl_c_stops_all_ranks_and_keeps_the_checkpoint(tmp_path):
    options = ("--steps", 100_000, "--checkpoint-every", 5, "--checkpoint", tmp_path)
    process = subprocess.Popen(
        command(*options),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while fp.checkpoint.latest(tmp_path) is None and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    began = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == 130, err
    assert "Traceback" not in err and "Warning" not in err
    assert err.splitlines()[-1] == f"stopped; --resume goes on from {fp.checkpoint.latest(tmp_path)}"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--stesp 3", "unrecognized arguments: --stesp 3"),
        ("--steps many", "argument --steps: 'many' is no whole number above 0"),
        ("--ranks 0", "argument --ranks: '0' is no whole number above 0"),
        ("--lr nan", "argument --lr: 'nan' is no number above 0"),
        ("--backend jit", "argument --backend: invalid choice: 'jit'"),
        ("--schedule 1f1c", "--schedule 1f1c: no schedule is named '1f1c'"),
        ("--ranks 3 --layers 2", "--ranks 3 needs 3 stages, more than there are --layers 2: use --layers 3"),
        ("--width 30 --heads 4", "--width 30 is no multiple of --heads 4: use --width 32"),
        ("--batch-size 30", "--batch-size 30 is no multiple of --dp 1 times --microbatches 8: use --batch-size 32"),
        ("--context 1000000", "--context 1000000 is more than the held-out text has: use at most"),
        ("--checkpoint nowhere --resume", "--resume finds no checkpoint in nowhere: leave it out, or name another"),
    ],
)
def test_an_impossible_option_is_one_line(module, capsys, options, line):
    with pytest.raises(SystemExit) as ended:
        module("options").parse(options.split())
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert err.startswith(f"train_gpt.py: {line}") and err.endswith("(--help shows all options)\n")
    assert err.count("\n") == 1


def test_a_run_goes_on_only_as_it_began(finished, module, capsys):
    with pytest.raises(SystemExit):
        module("options").parse([*TINY.split(), "--steps", "30", "--checkpoint", str(finished[0]), "--resume"])
    assert "step-20 was made with --steps 20, not 30: use --steps 20" in capsys.readouterr().err


def test_an_earlier_run_is_set_aside(finished, module, tmp_path):
    shutil.copytree(finished[0] / "step-8", tmp_path / "gpt" / "step-8")
    (tmp_path / "gpt-1").mkdir()
    module("train_gpt").set_aside(tmp_path / "gpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpt-1", "gpt-2"]


def test_the_batch_of_a_step_depends_on_seed_and_step_alone(module):
    corpus = module("text").load()
    batch = corpus.batch(4, 16, seed=1, step=7)
    assert torch.equal(batch["x"], corpus.batch(4, 16, seed=1, step=7)["x"])
    assert torch.equal(batch["x"][:, 1:], batch["y"][:, :-1])
    others = [corpus.batch(4, 16, seed, step)["x"] for seed, step in ((2, 7), (1, 8))]
    assert not any(torch.equal(batch["x"], other) for other in others)


def test_a_model_of_equal_odds_has_the_loss_of_a_uniform_guess(module):
    corpus = module("text").load()
    assert module("text").held_out_loss(lambda x: torch.zeros(*x.shape, 256), corpus, 64) == pytest.approx(
        math.log(256)
    )
