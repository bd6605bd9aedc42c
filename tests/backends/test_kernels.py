"""A kernel computes what its region does, and adds what the region leaves to others to add."""

import pytest
import torch

import funpipe as fp
from funpipe._typing import TensorType
from funpipe.backends.kernels import kernel
from tests.programs.models import MODELS, programs_of


def value_of(kind: TensorType, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    if kind.dtype == torch.int64:
        return torch.randint(0, 5, kind.shape, generator=g)
    return torch.randn(kind.shape, generator=g, dtype=kind.dtype)


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
        self.made = kernel(self.region, pairs, frozenset(self.region.outputs if wanted is None else wanted))
        self.values = {n: value_of(self.region.types[n], i) for i, n in enumerate(self.region.inputs)}
        self.values |= {a: value_of(self.region.types[value], 7) for a, value in pairs}
        self.before = {a: self.values[a].clone() for a, _ in pairs}
        self.expected = dict(zip(self.region.outputs, self._run(self.region), strict=True))
        self.found = dict(zip(self.made.outputs, self._run(self.made), strict=True))

    def _run(self, callable_form):
        return callable_form.module(*(self.values[n] for n in callable_form.inputs))


@pytest.mark.parametrize("loss_fn", MODELS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("num_stages", [1, 3])
def test_every_kernel_gives_the_bits_of_its_region(loss_fn, num_stages):
    programs = programs_of(loss_fn, num_stages, 2)
    for name in programs.regions:
        both = Both(programs, name)
        assert both.found.keys() == both.expected.keys()
        assert all(torch.equal(both.found[n], both.expected[n]) for n in both.found)
        assert both.made.inputs == both.region.inputs


def pairs_of(programs):
    outputs = programs.regions["B0"].outputs
    return [("acc.b0.0", outputs[0]), ("acc.w0.0", outputs[1])]


def test_gradients_are_added_in_place():
    programs = programs_of(num_stages=2)
    both = Both(programs, "B0", pairs_of(programs), wanted=())
    assert both.made.outputs == ()
    assert both.made.inputs == (*both.region.inputs, "acc.b0.0", "acc.w0.0")
    for accumulator, value in pairs_of(programs):
        assert torch.equal(both.values[accumulator], both.before[accumulator] + both.expected[value])


def test_a_gradient_is_added_as_soon_as_it_is_there():
    """Behind the operator that makes it: kept to the end, all gradients of a stage would be there at once."""
    programs = programs_of(num_stages=1)
    outputs = programs.regions["B0"].outputs
    nodes = list(kernel(programs.regions["B0"], [(f"acc.{v}.0", v) for v in outputs], frozenset()).module.graph.nodes)
    for i, node in enumerate(nodes):
        if node.target is torch.ops.aten.add_.Tensor:
            assert node.args[1] is nodes[i - 1]


def test_accumulators_have_the_types_of_what_is_added():
    programs = programs_of(num_stages=2)
    both = Both(programs, "B0", pairs_of(programs), wanted=())
    assert both.made.types[-2:] == tuple(both.region.types[v] for _, v in pairs_of(programs))
    assert both.made.types[:-2] == tuple(both.region.types[n] for n in both.region.inputs)


def test_one_value_may_be_added_and_read_too():
    programs = programs_of(num_stages=2)
    first, _ = pairs_of(programs)
    both = Both(programs, "B0", [first], wanted=[first[1]])
    assert torch.equal(both.found[first[1]], both.expected[first[1]])
    assert torch.equal(both.values[first[0]], both.before[first[0]] + both.expected[first[1]])


def test_one_value_may_be_added_to_two_accumulators():
    """Two places of a leaf may have the same gradient."""
    programs = programs_of(num_stages=2)
    value = programs.regions["B0"].outputs[0]
    both = Both(programs, "B0", [("acc.b0.0", value), ("acc.b0.1", value)], wanted=())
    for accumulator in ("acc.b0.0", "acc.b0.1"):
        assert torch.equal(both.values[accumulator], both.before[accumulator] + both.expected[value])


def test_what_nothing_reads_is_neither_returned_nor_computed():
    programs = programs_of(num_stages=2)
    wanted = programs.regions["F1"].outputs[:1]
    both = Both(programs, "F1", wanted=wanted)
    assert both.made.outputs == wanted
    assert len(both.made.module.graph.nodes) < len(Both(programs, "F1").made.module.graph.nodes)


def test_the_region_itself_stays_as_it_was():
    programs = programs_of(num_stages=2)
    before = programs.regions["B0"].as_text()
    Both(programs, "B0", pairs_of(programs))
    assert programs.regions["B0"].as_text() == before


def test_accumulators_lie_in_rows_whatever_the_strides_of_what_is_added():
    def loss(params, batch):
        return (params["w"].t() * batch).sum()

    traced = fp.trace(loss, {"w": torch.ones(3, 4)}, torch.ones(4, 3))
    (stage,) = fp.stages.partition(traced, ())
    value = stage.B.outputs[0]
    assert stage.B.types[value].stride == (1, 3)
    assert kernel(stage.B, [("acc.w.0", value)], frozenset()).types[-1].stride == (4, 1)
