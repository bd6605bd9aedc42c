"""What an interrupted compiler left is removed, and nothing else is."""

import ctypes
import importlib.machinery
import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from funpipe._errors import CompileError
from funpipe.backends import inductor
from funpipe.backends.broken import remove_broken
from tests.backends.test_inductor import ROOT, source


def as_module(path):
    loader = importlib.machinery.ExtensionFileLoader("broken", path)
    importlib.util.module_from_spec(importlib.util.spec_from_file_location("broken", path, loader=loader))


@pytest.mark.parametrize("load", [as_module, ctypes.CDLL])
@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"no library at all"])
def test_a_library_that_cannot_be_loaded_is_removed(tmp_path, load, content):
    library = tmp_path / "half.so"
    library.write_bytes(content)
    with pytest.raises((ImportError, OSError)) as error:
        load(str(library))
    assert remove_broken(error.value)
    assert not library.exists()


@pytest.mark.parametrize("error", [None, ImportError("no module named x"), OSError("disk full"), CompileError("no")])
def test_another_error_removes_nothing(error):
    assert not remove_broken(error)


def test_a_library_that_is_gone_by_now_is_not_taken_for_broken(tmp_path):
    assert not remove_broken(ImportError(f"{tmp_path}/gone.so: cannot open shared object file"))


FIRST = (
    "from tests.backends.test_inductor import source; from funpipe.backends import inductor; inductor.build([source()])"
)


# It compiles: what is looked at is what the compiler's own cache does with a file that an earlier process left.
def test_a_killed_process_does_not_stop_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    subprocess.run([sys.executable, "-c", FIRST], check=True, cwd=ROOT, env=os.environ, timeout=240)
    libraries = list(tmp_path.rglob("*.so"))
    assert libraries
    for library in libraries:
        library.write_bytes(b"")
    (built,) = inductor.build([source()])
    x = torch.rand(4)
    torch.testing.assert_close(built.call([x])[0], x.sin())
