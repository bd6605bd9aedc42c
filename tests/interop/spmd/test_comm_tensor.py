"""A class that nothing needs any more."""

import pytest

from funpipe import FunpipeError


def test_what_to_use_instead_is_said():
    with pytest.raises(ImportError, match="cannot import name 'CommTensor'"):
        from funpipe.interop.spmd.comm_tensor import CommTensor  # noqa: F401
    from funpipe.interop.spmd import comm_tensor

    with pytest.raises(AttributeError, match="has no 'CommTensor': collectives are operators.*fp.psum") as caught:
        comm_tensor.CommTensor  # noqa: B018
    assert isinstance(caught.value, FunpipeError)
