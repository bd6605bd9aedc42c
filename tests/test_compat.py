"""Each private corner of torch that funpipe uses still is where `_compat.py` looks for it."""

import inspect
import warnings

import pytest
import torch

from funpipe import _compat


def test_every_function_has_a_test_here():
    public = [n for n, f in vars(_compat).items() if inspect.isfunction(f) and f.__module__ == _compat.__name__]
    tests = " ".join(n for n in globals() if n.startswith("test_"))
    assert [n for n in public if n not in tests] == []


def test_fake_mode_makes_tensors_without_memory():
    with _compat.fake_mode():
        huge = torch.empty(1 << 40, 1 << 10)
        assert (huge @ torch.empty(1 << 10, 3)).shape == (1 << 40, 3)


def test_fake_mode_takes_real_tensors_in():
    with _compat.fake_mode():
        made = torch.empty(3) + REAL
    assert made.shape == (3,) and _compat.is_fake(made)


REAL = torch.ones(3)


def test_is_fake_tells_them_apart():
    with _compat.fake_mode():
        fake = torch.empty(3)
    assert _compat.is_fake(fake)
    assert not _compat.is_fake(REAL) and not _compat.is_fake(torch.empty(3, device="meta"))


def test_generated_code_is_collected_and_put_back():
    """The only way to see what Inductor wrote: if it moves, no order of communication can be read back."""
    from torch._inductor.graph import GraphLowering

    before = GraphLowering.__dict__["save_output_code"]
    with _compat.generated_code() as code, _compat.quiet_compile():
        torch.compile(lambda x: torch.sin(x) * 3.25, fullgraph=True)(torch.zeros(5))
    assert any("def call(" in text and "3.25" in text for text in code)
    assert GraphLowering.__dict__["save_output_code"] is before


def test_generated_code_is_put_back_after_an_error():
    from torch._inductor.graph import GraphLowering

    before = GraphLowering.__dict__["save_output_code"]
    with pytest.raises(KeyError), _compat.generated_code():
        raise KeyError
    assert GraphLowering.__dict__["save_output_code"] is before


def test_quiet_compile_lets_the_warnings_of_others_through():
    with _compat.quiet_compile(), pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", UserWarning, stacklevel=1)


def test_quiet_compile_silences_torch():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with _compat.quiet_compile():
            warnings.warn_explicit("old", DeprecationWarning, "mkldnn.py", 1, module="torch.utils.mkldnn")
    assert seen == []


def test_separate_regions_keeps_a_region_that_is_called_once():
    region = torch.compiler.nested_compile_region(lambda x: torch.sin(x) * 2)
    with _compat.generated_code() as code, _compat.quiet_compile(), _compat.separate_regions():
        torch.compile(lambda x: region(x) + 1, fullgraph=True)(torch.zeros(5))
    assert any("subgraph" in text.partition("def call(")[0] for text in code)
