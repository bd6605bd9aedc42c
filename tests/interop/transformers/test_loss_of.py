import pytest
import torch
from torch import nn

import funpipe as fp
from funpipe.interop.transformers import ModelError, loss_of, split_by_layers
from funpipe.interop.transformers.token_weights import CountingLabels
from tests.interop.transformers.small import Tagger, batch, tagger


def steps(model, number=3, **options):
    loss_fn, params, buffers = loss_of(model, **options)
    step = fp.train_step(
        loss_fn, fp.optim.sgd(0.1), stages=split_by_layers(model, 2), num_microbatches=2, backend="interpret"
    )
    state = step.init(params, batch(), buffers=buffers)
    found = []
    for _ in range(number):
        state, metrics = step(state, batch())
        found.append(metrics)
    return found, step.gather(state)


def eager(model, number=3):
    """The losses of steps with the whole batch at once."""
    optimizer, losses = torch.optim.SGD(model.parameters(), 0.1), []
    for _ in range(number):
        optimizer.zero_grad()
        loss = model(**batch(), use_cache=False).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def test_microbatches_weigh_by_the_labels_that_count():
    found, (params, _) = steps(tagger())
    model = tagger()
    torch.testing.assert_close([m["loss"] for m in found], eager(model))
    torch.testing.assert_close(params, {name: p.detach() for name, p in model.named_parameters()})


def test_a_microbatch_may_have_no_label_that_counts():
    model, given = tagger(), batch()
    given["labels"][2:] = -100
    loss_fn, params, buffers = loss_of(model)
    f = fp.value_and_grad(loss_fn, stages=2, num_microbatches=2, backend="interpret")
    loss, _ = f(params, given, buffers)
    torch.testing.assert_close(loss, model(**given, use_cache=False).loss.detach())


def test_another_loss_is_the_mean_over_microbatches():
    class Regularised(Tagger):
        def loss(self, logits, labels):
            return super().loss(logits, labels) + logits.square().mean()

    torch.manual_seed(0)
    model = Regularised()
    loss_fn, params, buffers = loss_of(model)
    assert isinstance(loss_fn(params, batch(), buffers=buffers).loss, torch.Tensor)


def test_other_outputs_are_reported():
    found, _ = steps(tagger(), number=1, outputs=("logits",))
    torch.testing.assert_close(found[0]["logits"], tagger()(batch()["input_ids"], use_cache=False).logits.detach())


def test_a_frozen_parameter_stays():
    model = tagger()
    model.embed.weight.requires_grad_(False)
    _, (params, _) = steps(model, number=1)
    assert torch.equal(params["embed.weight"], model.embed.weight)


def test_the_trained_values_go_back_into_the_model():
    model = tagger()
    found, (params, buffers) = steps(model, number=1)
    fp.restore(model, params, buffers)
    assert model(**batch(), use_cache=False).loss < found[0]["loss"]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"input_ids": batch()["input_ids"]}, r"Tagger returned no loss for a batch of \['input_ids'\]; pass 'labels'"),
        (batch()["input_ids"], "the batch is of type Tensor; pass a dict of the model's keyword arguments"),
    ],
)
def test_what_is_no_batch_with_labels(given, text):
    loss_fn, params, buffers = loss_of(tagger())
    with pytest.raises(ModelError, match=text):
        loss_fn(params, given, buffers=buffers)


def test_a_model_without_a_loss():
    loss_fn, params, buffers = loss_of(nn.Linear(3, 2))
    with pytest.raises(ModelError, match=r"Linear returned no loss.*in a loss function of yours"):
        loss_fn(params, {"input": torch.ones(2, 3)}, buffers=buffers)


def test_what_is_not_among_the_outputs():
    loss_fn, params, buffers = loss_of(tagger(), outputs=("states",))
    with pytest.raises(ModelError, match="Tagger returns no tensor 'states'; outputs may be of"):
        loss_fn(params, batch(), buffers=buffers)


@pytest.mark.parametrize(
    "options",
    [
        {"reduction": "sum"},
        {"weight": torch.ones(3)},
    ],
)
def test_other_cross_entropies_are_left_alone(options):
    scores, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    with CountingLabels() as counting:
        found = nn.functional.cross_entropy(scores, labels, **options)
    assert counting.means == [] and torch.equal(found, nn.functional.cross_entropy(scores, labels, **options))


def test_a_mean_is_its_sum_over_its_count():
    scores, labels = torch.randn(4, 3), torch.tensor([0, 7, 2, 7])
    options = {"ignore_index": 7, "label_smoothing": 0.1}
    with CountingLabels() as counting:
        found = nn.CrossEntropyLoss(**options)(scores, labels)
    torch.testing.assert_close(found, nn.functional.cross_entropy(scores, labels, **options))
    assert counting.of(found).count == 2 and counting.of(found.clone()) is None
