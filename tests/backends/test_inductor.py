"""Each different graph is compiled once, kept by what it computes, and an error names it. The compiler is stood in for
by one that writes trivial code, but where it is what is looked at."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe import _compat
from funpipe._errors import CompileError
from funpipe._typing import TensorType
from funpipe.backends import inductor
from funpipe.backends.inductor import Source, build
from funpipe.backends.store import Store
from tests.backends.build_together import COUNT
from tests.backends.random_graphs import graph_of, types_of

ROOT = Path(__file__).resolve().parent.parent.parent
VECTOR = TensorType((4,), (1,), torch.float32)


def source(function=torch.sin, kind=VECTOR, name="F0"):
    module = make_fx(lambda x: (function(x),), tracing_mode="fake")(
        torch.empty_strided(kind.shape, kind.stride, dtype=kind.dtype)
    )
    return Source(name, module, (kind,))


class Compiler:
    """Takes the place of Inductor.

    Args:
        error: raised instead of writing.
    """

    def __init__(self, error=None):
        self.error, self.written, self.code = error, [], "def call(arguments):\n    return (7,)\n"

    def __call__(self, module, types, options):
        if self.error is not None:
            raise self.error
        self.written.append(str(next(n for n in module.graph.nodes if n.op == "call_function").target))
        return self.code


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    made = Compiler()
    monkeypatch.setattr(_compat, "write_kernels", made)
    monkeypatch.setattr(_compat, "compiler_cache", lambda: str(tmp_path))
    return made


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "funpipe")


def test_equal_graphs_are_compiled_once(compiler):
    built = build([source(name="F0"), source(torch.cos), source(name="F1")])
    assert compiler.written == ["aten.sin.default", "aten.cos.default"]
    assert built[0] is built[2] and built[0] is not built[1]
    assert built[0].call([]) == (7,) and built[0].code == compiler.code


def test_a_second_build_finds_what_the_first_wrote(compiler):
    build([source()])
    build([source(), source(torch.cos)])
    assert compiler.written == ["aten.sin.default", "aten.cos.default"]


def test_progress_is_told_before_each_graph(compiler):
    told = []
    build([source(name="F0"), source(torch.cos, name="B0"), source(name="F1")], lambda *args: told.append(args))
    assert told == [("F0", 0, 2), ("B0", 1, 2)]  # by the first name of each


def test_no_graphs_are_no_work(compiler):
    assert build([]) == [] and compiler.written == []


OTHERS = {
    "operator": source(torch.cos),
    "number": source(lambda x: torch.sin(x) + 1),
    "shape": source(kind=TensorType((5,), (1,), torch.float32)),
    "dtype": source(kind=TensorType((4,), (1,), torch.float64)),
    "strides": source(kind=TensorType((4,), (2,), torch.float32)),
    "device": Source("F0", source().module, (TensorType((4,), (1,), torch.float32, "cuda"),)),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_the_key_tells_apart(other):
    assert other.key != source().key


def test_the_key_of_equal_graphs_is_equal_whatever_their_names():
    renamed = source(name="B3")
    for node in renamed.module.graph.nodes:
        node.name = f"another_{node.name}"
    assert renamed.key == source().key == source().key


SURROUNDINGS = {
    "torch": lambda patch: patch.setattr(torch, "__version__", "0.0.1"),
    "options": lambda patch: patch.setitem(inductor.OPTIONS, "size_asserts", True),
    "processor": lambda patch: patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NO SUCH"),
    "threads": lambda patch: patch.setattr(torch, "get_num_threads", lambda: 99),
    "own code": lambda patch: patch.setattr(inductor, "_own_code", lambda: "another version"),
}


@pytest.mark.parametrize("change", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_the_key_tells_surroundings_apart(monkeypatch, change):
    before = source().key
    change(monkeypatch)
    assert source().key != before


def test_settings_are_read_once_a_build(compiler, monkeypatch):
    """Half a millisecond for each graph otherwise."""
    read = []
    monkeypatch.setattr(_compat, "compiler_settings", lambda: read.append(1) or "settings")
    build([source(), source(torch.cos), source(torch.tan)])
    assert len(read) == 1


def test_kernels_are_loaded_onto_the_gpu_that_is_current(compiler, monkeypatch):
    """A thread begins with the first GPU as its current one."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    build([source()])
    assert chosen == []
    build([OTHERS["device"]])
    assert set(chosen) == {1}


def test_code_of_one_gpu_is_not_that_of_another(monkeypatch):
    """The number of the GPU is in the code."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    keys = []
    for index in (0, 1):
        monkeypatch.setattr(torch.cuda, "current_device", lambda index=index: index)
        keys.append(Source("F0", OTHERS["device"].module, OTHERS["device"].types).key)
    assert keys[0] != keys[1]


def test_an_error_names_the_region_the_reason_and_the_remedy(compiler):
    compiler.error = NotImplementedError("mine::op: no fake form\nmany\nmore lines")
    text = "region B3 cannot be compiled: NotImplementedError: mine::op: no fake form. Use backend='interpret'"
    with pytest.raises(CompileError, match=text) as raised:
        build([source(name="B3")])
    assert raised.value.__cause__ is compiler.error
    assert "many" not in str(raised.value)


def test_code_that_does_not_run_is_the_same_error(compiler, store):
    compiler.code = "raise OSError('no space left')"
    with pytest.raises(CompileError, match="region F0 cannot be compiled: OSError: no space left. Use backend="):
        build([source()])


def test_an_interrupt_goes_through_and_leaves_no_claim(compiler, store):
    compiler.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        build([source()])
    with store.claimed(source().key) as mine:
        assert mine
    compiler.error = None
    assert build([source()])[0].call([]) == (7,)


@pytest.mark.parametrize("code", ["def call(arguments", "def other():\n    pass\n", "1 / 0\n"], ids=str)
def test_stored_code_that_does_not_run_is_written_anew(compiler, store, code):
    """Left as it is, it would be an error in every process to come."""
    store.put(source().key, code)
    assert build([source()])[0].call([]) == (7,)
    assert compiler.written == ["aten.sin.default"]
    assert store.get(source().key) == compiler.code


def test_a_stored_file_that_is_cut_off_is_written_anew(compiler, store):
    build([source()])
    (file,) = store.folder.glob("*.py")
    file.write_text(file.read_text()[:-9])
    assert build([source()])[0].call([]) == (7,)
    assert len(compiler.written) == 2 and store.get(source().key) == compiler.code


def test_where_caches_are_switched_off_nothing_is_kept(compiler, monkeypatch, tmp_path):
    monkeypatch.setattr(_compat, "compiler_cache", lambda: None)
    build([source(), source()])
    build([source()])
    assert len(compiler.written) == 2 and list(tmp_path.iterdir()) == []


def test_without_a_store_an_error_is_raised_at_once(compiler, monkeypatch):
    monkeypatch.setattr(_compat, "compiler_cache", lambda: None)
    compiler.code = "1 / 0"
    with pytest.raises(CompileError, match="ZeroDivisionError"):
        build([source()])
    assert len(compiler.written) == 1


def test_what_another_process_writes_is_waited_for_and_everything_else_is_done_meanwhile(compiler, store):
    claimed, told = store.claimed(source().key), []
    assert claimed.__enter__()

    def finish():
        while len(compiler.written) < 1:
            time.sleep(0.005)
        store.put(source().key, "def call(arguments):\n    return 'of the other process'\n")
        claimed.__exit__(None, None, None)

    other = threading.Thread(target=finish, daemon=True)
    other.start()
    found = build([source(), source(torch.cos)], lambda *args: told.append(args))
    other.join()
    assert [b.call([]) for b in found] == ["of the other process", (7,)]
    assert compiler.written == ["aten.cos.default"] and told[-1] == ("F0", 1, 2)


def test_a_graph_whose_writer_died_is_written(compiler, store):
    claimed = store.claimed(source().key)
    assert claimed.__enter__()
    threading.Timer(0.1, claimed.__exit__, (None, None, None)).start()  # the system ends it with the process
    assert build([source()])[0].call([]) == (7,)


def test_two_processes_that_build_the_same_write_each_graph_once(tmp_path):
    command = [sys.executable, "-m", "tests.backends.build_together"]
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment, "cwd": ROOT}
    both = [subprocess.Popen(command, **options) for _ in range(2)]
    for process in both:
        while process.stdout.readline() not in ("ready\n", ""):
            pass
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    written = [process.communicate()[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len(written[0] + written[1]) == len(set(written[0] + written[1])) == COUNT
    assert written[0] and written[1]  # the work was divided


def test_the_compilers_code_does_what_the_graph_does(tmp_path, monkeypatch):
    """Compiles one small graph: whether Inductor's code takes its arguments in a list and writes to them in place."""
    monkeypatch.setattr(_compat, "compiler_cache", lambda: str(tmp_path))
    module, inputs = graph_of(["product", "add in place", "save a view", "save a constant"], 1)
    (built,) = build([Source("F0", module, tuple(types_of(inputs)))])
    found, expected = ([t.clone() for t in inputs] for _ in range(2))
    given = list(found)
    results = built.call(given)
    assert given == []
    torch.testing.assert_close([*results, *found], [*module(*expected), *expected])
    assert [t.stride() for t in results] == [t.stride() for t in module(*expected)]
