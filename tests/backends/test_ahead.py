"""Compiling ahead of time, and what a compiler's failure looks like."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from funpipe._errors import CompileError
from funpipe.backends import ahead
from funpipe.backends.ahead import ahead_of_time, callable_of

ROOT = Path(__file__).resolve().parent.parent.parent


class Compiler:
    """Stands in for `torch.compile`; raises when it is asked to compile."""

    def __init__(self, error):
        self.error = error

    def __call__(self, function, **options):
        return self

    def aot_compile(self, inputs):
        raise self.error


def failing(monkeypatch, error):
    monkeypatch.setattr(torch, "compile", Compiler(error))
    return ahead_of_time(lambda x: x, [torch.zeros(1)], "rank 3: the step")


def test_a_failure_names_what_was_compiled_the_reason_and_the_remedy(monkeypatch):
    error = NotImplementedError("mine::op: no fake form\nmany\nmore lines")
    text = r"rank 3: the step cannot be compiled: NotImplementedError: mine::op: no fake form. Use backend='interpret'"
    with pytest.raises(CompileError, match=text) as raised:
        failing(monkeypatch, error)
    assert raised.value.__cause__ is error
    assert "many" not in str(raised.value)


def test_a_missing_compiler_is_told_apart(monkeypatch):
    error = RuntimeError(
        f"InvalidCxxCompiler: {ahead.NO_COMPILER} found in torch._inductor.config.cpp.cxx: (None, 'g++')"
    )
    with pytest.raises(CompileError, match=r"finds no C\+\+ compiler: install one .* or use backend='interpret'"):
        failing(monkeypatch, error)


def test_an_interrupt_goes_through(monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        failing(monkeypatch, KeyboardInterrupt())


def test_a_graph_as_a_function_calls_it():
    graph = torch.fx.symbolic_trace(torch.nn.ReLU())
    assert callable_of("F0", graph)(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]


def test_no_two_of_them_have_equal_code():
    """Dynamo once took the second of two stages for the first, because their arguments had the same types."""
    graph = torch.fx.symbolic_trace(torch.nn.ReLU())
    assert callable_of("F0", graph).__code__ != callable_of("F1", graph).__code__


NO_COMPILER = """
import torch
from funpipe._errors import CompileError
from funpipe.backends.ahead import ahead_of_time
try:
    ahead_of_time(lambda x: x.sin() + 1, [torch.zeros(3)], "it")
except CompileError as error:
    print(error)
"""


@pytest.mark.full
def test_where_there_is_no_compiler_torch_still_says_it_like_that(tmp_path):
    environment = os.environ | {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", NO_COMPILER], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert "torch finds no C++ compiler: install one" in done.stdout, done.stderr
