"""The front end is called as torch.distributed.pipelining's is."""

import inspect

import pytest
from torch.distributed.pipelining import _IR as theirs

from funpipe.interop.pipelining import _IR as ours

FUNCTIONS = [
    "pipeline",
    "pipe_split",
    "annotate_split_points",
    "get_submod_name",
    "PipeSequential.forward",
    "PipeSequential.from_sequential",
    "LossWrapper",
    "TrivialLossWrapper.forward",
    "DetachExecutor",
    "DetachExecutor.run",
    "Pipe.forward",
    "Pipe.get_stage_module",
    "Pipe.build_stage",
    "Pipe.info",
    "Pipe.print_readable",
    "Pipe.from_tracing",
    "Pipe._from_traced",
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_parameters_have_the_same_names_and_defaults(name):
    mine, original = (_parameters(module, name) for module in (ours, theirs))
    assert mine == original


def _parameters(module, name):
    found = module
    for part in name.split("."):
        found = getattr(found, part)
    return [(p.name, p.kind, p.default) for p in inspect.signature(found).parameters.values()]


@pytest.mark.parametrize("name", ["SplitPoint", "MultiUseParameterConfig"])
def test_choices_have_the_same_names_and_values(name):
    assert _choices(getattr(ours, name)) == _choices(getattr(theirs, name))


def _choices(enum):
    return [(choice.name, choice.value) for choice in enum]


def test_names_of_stages_are_the_same():
    assert [ours.get_submod_name(stage) for stage in (0, 12)] == [theirs.get_submod_name(stage) for stage in (0, 12)]


def test_the_operator_of_a_mark_has_no_arguments():
    assert str(ours.aten_pipe_split_alias._schema).endswith("() -> ()")
