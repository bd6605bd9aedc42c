"""Pieces that are compiled for every size run at their own, whatever size other runs began at."""

import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe._errors import CompileError, FunpipeWarning
from funpipe._typing import TensorType
from funpipe.backends.dynamic import build as module
from funpipe.backends.dynamic.any_size import AnySize
from funpipe.backends.dynamic.build import built_for_sizes
from funpipe.backends.dynamic.holds import with_conditions
from funpipe.backends.inductor import Built


@dataclass(frozen=True)
class Traced:
    module: fx.GraphModule
    types: tuple[TensorType, ...]


def piece(size):
    x = torch.zeros(size, 3)
    return Traced(make_fx(lambda x: (x.reshape(-1) * 2,), tracing_mode="fake")(x), (TensorType.of(x),))


class Compiler:
    """Stands in for the compiler; code is shared by its text, as the store of all runs does."""

    def __init__(self, condition):
        self.condition, self.shared, self.calls = condition, {}, 0

    def __call__(self, sources, report):
        self.calls += 1
        if self.condition is None and any(isinstance(s, AnySize) for s in sources):
            raise CompileError("not for every size")
        return [Built(list, self.shared.setdefault(s.text, self.written(s))) for s in sources]

    def written(self, source):
        if not isinstance(source, AnySize):
            return "static"
        return with_conditions(f"code of {source.size}", "s0", [self.condition.format(source.size)])


@pytest.fixture
def compiled(monkeypatch):
    """Puts a compiler, whose code has one condition, in the place of the real one."""

    def use(condition):
        compiler = Compiler(condition)
        monkeypatch.setattr(module, "build", compiler)
        monkeypatch.setattr(module, "_KNOWN", type(module._KNOWN)(module._KNOWN.default_factory))
        return compiler

    return use


def run(size):
    found = built_for_sizes({"F0": [piece(size)]}, lambda: iter([{"F0": [piece(2 * size)]}]), lambda *given: None)
    return found["F0"][0].code


def test_code_of_another_size_whose_conditions_are_not_met_is_compiled_from_this_one_on(compiled):
    compiler = compiled("s0 <= {}")
    codes = [run(size).partition("\n")[2] for size in (4, 3, 6, 5)]
    assert codes == ["code of 4", "code of 4", "code of 6", "code of 6"]
    assert compiler.calls == 3  # the one that is shared does not fit 6


def test_conditions_that_cannot_be_read_leave_code_for_one_size(compiled):
    compiler = compiled("strange(s0)")
    with pytest.warns(FunpipeWarning, match="compiled for the sizes of this batch alone"):
        assert run(4) == "static"
    assert compiler.calls == 3


def test_a_compiler_that_takes_the_size_for_a_number_is_told_of(compiled):
    compiled("Eq(s0, {})")
    for size in (4, 6):
        with pytest.warns(FunpipeWarning, match="1 graphs in F0 are compiled for the sizes of this batch alone"):
            assert run(size).endswith(f"code of {size}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(4).endswith("code of 4")


def test_what_cannot_be_compiled_for_every_size_is_compiled_for_its_own(compiled):
    compiled(None)
    with pytest.warns(FunpipeWarning, match="compiled for the sizes of this batch alone"):
        assert run(4) == "static"


def test_what_is_kept_is_bounded(compiled):
    compiled("Eq(s0, {})")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FunpipeWarning)
        for size in range(2, 80):
            run(size)
    assert len(*module._KNOWN.values()) == 64
