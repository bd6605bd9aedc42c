"""What an error of the compiler says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from funpipe._errors import CompileError
from funpipe.backends.failure import NO_COMPILER, failure

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_failure_names_what_was_compiled_the_reason_and_the_remedy():
    error = failure("rank 3: the step", NotImplementedError("mine::op: no fake form\nmany\nmore lines"))
    assert isinstance(error, CompileError)
    assert str(error).startswith(
        "rank 3: the step cannot be compiled: NotImplementedError: mine::op: no fake form. Use backend='interpret'"
    )
    assert "many" not in str(error) and str(error).endswith("(torch.library.register_fake).")


def test_a_full_stop_of_the_compilers_is_not_doubled():
    assert "RuntimeError: Out of memory. Use backend=" in str(failure("region F0", RuntimeError("Out of memory.")))


def test_a_missing_compiler_is_told_apart():
    text = str(failure("region F0", RuntimeError(f"InvalidCxxCompiler: {NO_COMPILER} found in cpp.cxx: (None, 'g++')")))
    assert "finds no C++ compiler: install one" in text and "or use backend='interpret'" in text


WITHOUT_COMPILER = """
import torch
from funpipe._errors import CompileError
from tests.backends.test_inductor import source
from funpipe.backends.inductor import build
try:
    build([source()])
except CompileError as error:
    print(error)
"""


@pytest.mark.full
def test_where_there_is_no_compiler_torch_still_says_it_like_that(tmp_path):
    """In a process of its own, whose compiler is one that does not exist."""
    environment = os.environ | {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", WITHOUT_COMPILER]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert "torch finds no C++ compiler: install one" in done.stdout, done.stderr


def test_a_refused_kernel_names_the_compiler_and_the_remedy():
    error = RuntimeError("CppCompileError: C++ compile error\nunrecognized option -mavx512vnni")
    text = str(failure("region F0", error))
    assert "the C++ compiler refuses a kernel" in text and text.endswith("else use backend='interpret'.")
    assert "TORCHINDUCTOR_VEC_ISA_OK=0" in text
