"""Models of the list through funpipe's own functions: a few of them, and all with -m full."""

import gc

import pytest

import funpipe as fp
from tests.models import native
from tests.models.listed import ENTRIES, LISTED, entry
from tests.models.problem import Problem

QUICK = (
    "AlbertForMaskedLM",
    "ElectraForPreTraining",
    "LlamaForCausalLM",
    "MixtralForCausalLM",
    "ResNet with BatchNorm, training",
    "LSTM",
    "shared block, tied embeddings",
    "integers and booleans across cuts",
    "nested inputs, a number",
    "torch.library custom operator",
)
"""One layer called many times, sizes read from a mask, rotary tables, experts, buffers, sharing, trees, operators."""


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("name", QUICK)
def test_a_model_cut_in_two_has_its_names_and_gradients(name):
    problem = Problem.of(entry(name))
    native.names(problem)
    native.gradients(problem, problem.entry.two)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_a_model_passes_every_check(entry):
    for check in native.checks(entry).values():
        check()


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", LISTED, ids=lambda e: e.name)
def test_a_compiled_model_has_its_gradients_and_trains(entry):
    problem = Problem.of(entry)
    native.gradients(problem, entry.two, "step")
    native.three_steps(problem, entry.two, "step")
    gc.collect()


@pytest.mark.filterwarnings("ignore")
def test_a_model_runs_after_a_trace_as_before():
    problem = Problem.of(entry("LlamaForCausalLM"))
    args, kwargs = problem.entry.inputs(0)
    before = problem.module(*args, **kwargs)["loss"]
    fp.trace(problem.loss, problem.params, problem.batch(1), buffers=problem.buffers)
    assert problem.module(*args, **kwargs)["loss"] == before


def test_the_list_names_each_model_once_and_has_those_that_torch_was_measured_with():
    assert len(LISTED) == 28
    assert len({e.name for e in ENTRIES}) == len(ENTRIES)
    assert all(len(e.four) == 3 for e in ENTRIES if e.four)
