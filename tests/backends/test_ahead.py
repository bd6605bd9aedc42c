"""Compiling a whole function ahead of time; what a compiler's failure looks like."""

import pytest
import torch

from funpipe import _compat
from funpipe._errors import CompileError
from funpipe.backends.ahead import ahead_of_time


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


def test_a_failure_names_what_was_compiled(monkeypatch):
    error = NotImplementedError("mine::op: no fake form")
    with pytest.raises(
        CompileError, match="rank 3: the step cannot be compiled: NotImplementedError: mine::op"
    ) as raised:
        failing(monkeypatch, error)
    assert raised.value.__cause__ is error


def test_an_interrupt_goes_through(monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        failing(monkeypatch, KeyboardInterrupt())


class Wrapping(RuntimeError):
    """As the compiler's own errors: around another one."""

    def __init__(self, inner):
        super().__init__(f"{type(inner).__name__}: {inner}")
        self.inner_exception = inner


class Interrupted:
    """Stands in for `torch.compile` where a killed process has left libraries that nobody can load."""

    def __init__(self, libraries, remade):
        self.libraries, self.remade, self.tries = libraries, remade, 0

    def __call__(self, function, **options):
        return self

    def aot_compile(self, inputs):
        self.tries += 1
        for library in self.libraries:
            if library.exists() or not self.remade:
                library.touch()
                raise Wrapping(ImportError(f"{library}: file too short"))
        return self

    def disable_guard_check(self):
        pass


@pytest.mark.parametrize("remade", [True, False], ids=["whole", "broken again"])
def test_libraries_that_a_killed_process_left_are_made_anew_once(monkeypatch, tmp_path, remade):
    libraries = [tmp_path / "one.so", tmp_path / "two.so"]
    for library in libraries:
        library.touch()
    compiler = Interrupted(libraries, remade)
    monkeypatch.setattr(torch, "compile", compiler)
    if remade:
        assert ahead_of_time(lambda x: x, [torch.zeros(1)], "the step")[0] is compiler
        assert compiler.tries == 3 and not any(library.exists() for library in libraries)
    else:
        with pytest.raises(CompileError, match=r"one\.so: file too short"):
            ahead_of_time(lambda x: x, [torch.zeros(1)], "the step")
        assert compiler.tries == 2


def test_without_the_compilers_caches_the_error_says_what_to_do(monkeypatch):
    """Torch refuses too, with a word about itself."""
    monkeypatch.setattr(_compat, "compiler_cache", lambda: None)
    remedy = "use numerics='exact', or unset TORCHINDUCTOR_FORCE_DISABLE_CACHES."
    with pytest.raises(CompileError, match=f"rank 3: the step cannot be compiled as one function.*{remedy}"):
        failing(monkeypatch, AssertionError("not reached"))
