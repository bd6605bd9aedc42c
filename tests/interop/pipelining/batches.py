"""Random arguments of a call, with their specs, and what is equal to them."""

import torch
from hypothesis import strategies as st
from torch import Tensor


def same(a, b):
    """Equal structure, and equal leaves to the bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


@st.composite
def tensors(draw, min_rows=1):
    """A tensor of up to three dimensions, and one of them to cut it along."""
    shape = draw(st.lists(st.integers(min_rows, 5), min_size=1, max_size=3))
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.int64]))
    dim = draw(st.integers(-len(shape), len(shape) - 1))
    return torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype), dim


@st.composite
def calls(draw, spec_of, replicated):
    """Nested positional and keyword arguments, their specs as `spec_of` and `replicated` write them, and a count."""
    (a, da), (b, db), (c, dc), (d, dd) = (draw(tensors()) for _ in range(4))
    args = ({"x": [a, (b, 3)]}, "word", None)
    args_spec = ({"x": [spec_of(da), (spec_of(db), replicated)]}, replicated, replicated)
    kwargs = {"mask": c, "nested": {"y": d, "scale": 0.5}}
    kwargs_spec = {"mask": spec_of(dc), "nested": {"y": spec_of(dd), "scale": replicated}}
    return args, kwargs, args_spec, kwargs_spec, draw(st.integers(1, 4))
