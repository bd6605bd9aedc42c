"""Converting a model without memory."""

from tests.benchmarks import convert


def test_cuts_are_before_every_fourth_of_the_layers():
    assert convert.cuts("Llama", 24) == ["model.layers.6", "model.layers.12", "model.layers.18"]
    assert convert.cuts("GPT2", 4) == ["transformer.h.1", "transformer.h.2", "transformer.h.3"]


def test_a_model_without_memory_is_traced_and_cut_and_stays_without():
    model = convert.build("GPT2", 4)
    found = convert.by_funpipe(model, convert.cuts("GPT2", 4))
    assert list(found) == ["trace", "cut"]
    assert all(p.is_meta for p in model.parameters())
