"""A kernel computes what its region does, from buckets, and adds what the region leaves to others."""

import pytest
import torch

from funpipe._typing import TensorType
from funpipe.backends.kernels import kernel
from tests.programs.models import MODELS, programs_of, tied


def value_of(kind: TensorType, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    if kind.dtype == torch.int64:
        return torch.randint(0, 5, kind.shape, generator=g)
    return torch.randn(kind.shape, generator=g, dtype=kind.dtype)


def flat_of(bucket, params):
    flat = torch.zeros(bucket.size, dtype=bucket.dtype)
    for slot in bucket.slots:
        slot.view(flat).copy_(params[slot.leaf])
    return flat


class Both:
    """A region and its kernel on the same values.

    Args:
        programs: of all ranks.
        name: the region's.
        pairs: accumulators with the value added to each.
        wanted: the outputs that something else reads.
    """

    def __init__(self, programs, name, pairs=(), wanted=None):
        self.region = programs.regions[name]
        layout = programs.layout
        held = frozenset(b.name for b in layout.of_stage(self.region.stage))
        self.made = kernel(
            self.region, layout, held, pairs, frozenset(self.region.outputs if wanted is None else wanted)
        )
        self.values = {n: value_of(programs.types[_typed(n)], i) for i, n in enumerate(self.region.inputs)}
        params = {s.leaf: value_of(programs.types[f"param.{s.leaf}"], 99) for b in layout.buckets for s in b.slots}
        params |= {n.removeprefix("param."): v for n, v in self.values.items() if n.startswith("param.")}
        self.values |= {f"leaf.{n}": v for n, v in params.items()}
        self.values |= {f"bucket.{b.name}": flat_of(b, params) for b in layout.buckets}
        self.values |= {a: value_of(programs.types[a], 7) for a, _ in pairs}
        self.expected = dict(zip(self.region.outputs, self._run(self.region), strict=True))
        self.found = dict(zip(self.made.outputs, self._run(self.made), strict=True))

    def _run(self, callable_form):
        return callable_form.module(*(self.values[n] for n in callable_form.inputs))


def _typed(name):
    kind = name.split(".")[0]
    return name if kind in ("param", "const", "buffer") else f"{name}@0"


@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("num_stages", [1, 3])
def test_every_kernel_gives_the_bits_of_its_region(loss_fn, num_stages):
    programs = programs_of(loss_fn, num_stages, 2)
    for name in programs.regions:
        both = Both(programs, name)
        assert both.found.keys() == both.expected.keys()
        assert all(torch.equal(both.found[n], both.expected[n]) for n in both.found)


def test_parameters_come_as_whole_buckets():
    both = Both(programs_of(num_stages=2), "F1")
    assert [n for n in both.region.inputs if n.startswith("param.")] == [
        f"param.{k}{i}" for k in "bw" for i in (1, 2, 3)
    ]
    assert [n for n in both.made.inputs if not n.startswith(("batch.", "tanh"))] == ["bucket.s1_float32"]


def test_a_parameter_of_another_ranks_bucket_comes_as_the_copy_that_is_here():
    both = Both(programs_of(tied, 3), "F2")
    assert "leaf.words" in both.made.inputs and "bucket.s0_float32" not in both.made.inputs


def test_gradients_are_added_inside():
    programs = programs_of(num_stages=2)
    pairs = [("acc.b0.0", programs.regions["B0"].outputs[0]), ("acc.w0.0", programs.regions["B0"].outputs[1])]
    both = Both(programs, "B0", pairs, wanted=())
    assert both.made.outputs == ("acc.b0.0", "acc.w0.0")
    for accumulator, value in pairs:
        assert torch.equal(both.found[accumulator], both.values[accumulator] + both.expected[value])


def test_what_nothing_reads_is_neither_returned_nor_computed():
    programs = programs_of(num_stages=2)
    wanted = programs.regions["F1"].outputs[:1]
    both = Both(programs, "F1", wanted=wanted)
    assert both.made.outputs == wanted
    assert len(both.made.module.graph.nodes) < len(Both(programs, "F1").made.module.graph.nodes)


def test_the_region_itself_stays_as_it_was():
    programs = programs_of(num_stages=2)
    before = programs.regions["B0"].as_text()
    Both(programs, "B0", [("acc.b0.0", programs.regions["B0"].outputs[0])])
    assert programs.regions["B0"].as_text() == before
