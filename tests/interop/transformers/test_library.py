"""Models of the library itself: the loss of padded batches, and saving what was trained."""

import pytest
import torch

import funpipe as fp
from funpipe.interop.transformers import loss_of, split_by_layers
from tests.models.listed import entry
from tests.models.text import TEXT

transformers = pytest.importorskip("transformers")

PADDED = ("LlamaForCausalLM", "BertForMaskedLM", "T5ForConditionalGeneration")


def padded(name):
    """Four rows, of which two end early: their labels are left out."""
    (_, one), (_, two) = entry(name).inputs(0), entry(name).inputs(1)
    batch = {key: torch.cat([one[key], two[key]]) for key in one}
    batch["labels"][1, 5:] = -100
    batch["labels"][3, 9:] = -100
    return batch


def step_of(model, batch, num_stages=2):
    loss_fn, params, buffers = loss_of(model)
    stages = split_by_layers(model, num_stages)
    step = fp.train_step(loss_fn, fp.optim.sgd(0.1), stages=stages, num_microbatches=2, backend="interpret")
    return step, step.init(params, batch, buffers=buffers)


def same_as_eager(name, num_stages):
    model, whole, batch = entry(name).build(), entry(name).build(), padded(name)
    step, state = step_of(model, batch, num_stages)
    optimizer = torch.optim.SGD(whole.parameters(), 0.1)
    for _ in range(3):
        state, metrics = step(state, batch)
        optimizer.zero_grad()
        loss = whole(**batch).loss
        loss.backward()
        optimizer.step()
        torch.testing.assert_close(metrics["loss"], loss.detach())
    return step, state


def test_the_loss_of_a_padded_batch_and_what_is_saved(tmp_path):
    step, state = same_as_eager("LlamaForCausalLM", 2)
    model, batch = entry("LlamaForCausalLM").build(), padded("LlamaForCausalLM")
    fp.restore(model, *step.gather(state)).save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(**batch).loss, model(**batch).loss)
    with torch.no_grad():
        assert model(**batch).loss < entry("LlamaForCausalLM").build()(**batch).loss


@pytest.mark.full
@pytest.mark.parametrize("num_stages", [2, 4])
@pytest.mark.parametrize("name", PADDED)
def test_the_loss_of_a_padded_batch(name, num_stages):
    same_as_eager(name, num_stages)


@pytest.mark.full
@pytest.mark.parametrize("name", [e.name for e in TEXT])
def test_layers_are_found(name):
    model = entry(name).build()
    if "Albert" not in name:  # one layer, called four times
        assert len(split_by_layers(model, 4)) == 3
