"""Real models through `pipeline`: they convert, keep their names, and train as the whole model does."""

import pytest

import funpipe as fp
from tests.interop.pipelining.model_ranks import train_all
from tests.models.entry import Entry
from tests.models.listed import ENTRIES, LISTED
from tests.models.through_pipeline import checks

pytest.importorskip("transformers")

QUICK = ("BertForMaskedLM", "LongformerForMaskedLM")
"""The usual one, and one that reads its mask in Python."""

RANKS = (
    "T5ForConditionalGeneration",
    "BartForConditionalGeneration",
    "ViTForImageClassification",
    "XLNetLMHeadModel",
    "LlamaForCausalLM",
    "MixtralForCausalLM",
    "ElectraForPreTraining",
    "LongformerForMaskedLM",
)
"""Outputs that are not contiguous, an encoder's outputs, rotations, experts, arguments of later stages, masks and
numbers across the cut, sizes that are data."""


@pytest.mark.parametrize("entry", [e for e in LISTED if e.name in QUICK], ids=lambda e: e.name)
def test_a_model_converts_keeps_its_names_and_trains(entry: Entry):
    found = checks(entry)
    for name in ("converts", "forward", "names", "gradients"):
        found[name]()


@pytest.mark.full
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_every_model_in_two_and_four_and_inside_a_block(entry: Entry):
    for check in checks(entry).values():
        check()


@pytest.mark.full
@pytest.mark.parametrize("name", RANKS)
def test_on_two_processes(name: str):
    for found in fp.launch(train_all, 2, [name], timeout=600):
        assert found == dict.fromkeys(found, "")
