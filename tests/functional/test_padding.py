"""Padding: rows up to a number, positions up to one of a few sizes; losses and gradients are those without."""

import pytest
import torch
from torch.nn.functional import cross_entropy

import funpipe as fp
from funpipe._errors import BatchError

GENERATOR = torch.Generator().manual_seed(0)


def test_rows_up_to_a_number():
    padded, mask = fp.microbatch.pad({"x": torch.arange(5)}, 2, rows=8)
    assert padded["x"].tolist() == [0, 1, 2, 3, 4, 4, 4, 4] and mask.tolist() == [True] * 5 + [False] * 3


def test_as_many_rows_as_there_are_stay_as_they_are():
    x = torch.arange(4)
    padded, mask = fp.microbatch.pad(x, 2, rows=4)
    assert padded is x and mask.all()


@pytest.mark.parametrize("rows", [4, 7])
def test_rows_that_do_not_hold_or_divide_the_batch_are_an_error(rows):
    with pytest.raises(BatchError, match=r"rows is .*a multiple of 2 that is at least 5, such as 6"):
        fp.microbatch.pad(torch.arange(5), 2, rows=rows)


def test_positions_go_up_to_the_smallest_size_that_holds_them():
    batch = {"tokens": torch.ones(2, 3, dtype=torch.int64), "scale": torch.ones(2)}
    for sizes, size in (((8, 4), 4), ((3, 4), 3), (5, 5)):
        padded, mask = fp.microbatch.pad_to(batch, sizes, {"tokens": 1, "scale": None})
        assert padded["tokens"].shape == (2, size) and int(mask.sum()) == 3 and padded["scale"] is batch["scale"]


def test_each_leaf_has_its_own_fill_and_dimension():
    batch = (torch.ones(2, 3), torch.ones(3, 2, dtype=torch.bool))
    (x, keep), _ = fp.microbatch.pad_to(batch, 4, (1, 0), (-1.0, False))
    assert x[:, 3].tolist() == [-1, -1] and keep[3].tolist() == [False, False] and keep.dtype == torch.bool


def test_no_size_that_is_large_enough_is_an_error():
    with pytest.raises(BatchError, match="the batch has 3 positions, and the largest size is 2; add a larger"):
        fp.microbatch.pad_to(torch.ones(2, 3), (1, 2))


def test_leaves_that_disagree_are_an_error():
    with pytest.raises(BatchError, match="has 3 rows along dimension 1"):
        fp.microbatch.pad_to({"a": torch.ones(2, 3), "b": torch.ones(2, 4)}, 8)


def test_a_fill_that_does_not_fit_is_an_error():
    with pytest.raises(BatchError, match="fill .* is no prefix of the batch"):
        fp.microbatch.pad_to({"a": torch.ones(2, 3)}, 8, fill={"b": 0})


PARAMS = {
    "embed": torch.randn(11, 8, generator=GENERATOR, dtype=torch.float64),
    "mix": torch.randn(8, 8, generator=GENERATOR, dtype=torch.float64),
    "head": torch.randn(8, 11, generator=GENERATOR, dtype=torch.float64),
}


def loss_fn(params, batch):
    """Each position sees the mean of those up to it; labels of -100 do not count."""
    x = params["embed"][batch["tokens"]]
    x = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
    logits = torch.tanh(x @ params["mix"]) @ params["head"]
    count = (batch["labels"] != -100).sum()
    return fp.Weighted(cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum"), count)


def batch_of(rows, length):
    generator = torch.Generator().manual_seed(rows * length)
    tokens = torch.randint(11, (rows, length + 1), generator=generator)
    return {"tokens": tokens[:, :-1], "labels": tokens[:, 1:].clone()}


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize(("rows", "length"), [(5, 6), (8, 4), (1, 5)])
def test_a_padded_batch_trains_as_the_batch_itself(stages, rows, length):
    batch = batch_of(rows, length)
    padded, _ = fp.microbatch.pad_to(batch, (6, 8), fill={"tokens": 0, "labels": -100})
    padded, real = fp.microbatch.pad(padded, 4, rows=8)
    padded["labels"] = padded["labels"].masked_fill(~real[:, None], -100)
    f = fp.value_and_grad(loss_fn, stages=stages, num_microbatches=4, backend="interpret")
    loss, grads = f(PARAMS, padded)
    leaves = {n: leaf.clone().requires_grad_() for n, leaf in PARAMS.items()}
    whole = loss_fn(leaves, batch)
    mean = whole.sum / whole.weight
    torch.testing.assert_close(loss, mean.detach(), rtol=1e-10, atol=0, check_dtype=False)
    for name, grad in zip(leaves, torch.autograd.grad(mean, list(leaves.values())), strict=True):
        torch.testing.assert_close(grads[name], grad, rtol=1e-9, atol=1e-12)


def test_an_uneven_last_batch_says_how_to_fill_it():
    f = fp.value_and_grad(loss_fn, num_microbatches=4, backend="interpret")
    with pytest.raises(BatchError, match=r"5 rows.*4 microbatches do not divide.*fp\.microbatch\.pad\(batch, 4\)"):
        f(PARAMS, batch_of(5, 6))


def attend(x, positions, sequences):
    """Attention within each sequence of a packed row, causal by position."""
    same = sequences[:, :, None] == sequences[:, None, :]
    before = positions[:, :, None] >= positions[:, None, :]
    weights = (x @ x.transpose(1, 2)).masked_fill(~(same & before), float("-inf")).softmax(-1)
    return weights @ x


def packed_loss(params, batch):
    x = params["embed"][batch["tokens"]]
    x = fp.mark_stage_end(attend(x, batch["positions"], batch["sequences"]))
    x = attend(x @ params["mix"], batch["positions"], batch["sequences"])
    losses = cross_entropy((x @ params["head"]).flatten(0, 1), batch["labels"].flatten(), reduction="sum")
    return fp.Weighted(losses, (batch["labels"] != -100).sum())


def packed(lengths, size):
    """Sequences one after the other in a row, filled up; each begins again at position 0."""
    whole = [batch_of(1, n) for n in lengths]
    rest = size - sum(lengths)
    tokens = torch.cat([*(w["tokens"] for w in whole), torch.zeros(1, rest, dtype=torch.int64)], 1)
    labels = torch.cat([*(w["labels"] for w in whole), torch.full((1, rest), -100)], 1)
    positions = torch.cat([*(torch.arange(n) for n in lengths), torch.arange(rest)])[None]
    sequences = torch.cat([torch.full((n,), i) for i, n in enumerate((*lengths, rest))])[None]
    return {"tokens": tokens, "labels": labels, "positions": positions, "sequences": sequences}, whole


@pytest.mark.parametrize("stages", [1, 2])
def test_packed_sequences_train_as_the_sequences_by_themselves(stages):
    first, one = packed((3, 5, 2), 12)
    second, two = packed((7, 4), 12)
    batch = {name: torch.cat([first[name], second[name]]) for name in first}
    f = fp.value_and_grad(packed_loss, stages=stages, num_microbatches=2, backend="interpret")
    loss, grads = f(PARAMS, batch)
    leaves = {n: leaf.clone().requires_grad_() for n, leaf in PARAMS.items()}
    parts = [packed_loss(leaves, packed((w["tokens"].shape[1],), w["tokens"].shape[1])[0]) for w in (*one, *two)]
    mean = sum(p.sum for p in parts) / sum(p.weight for p in parts)
    torch.testing.assert_close(loss, mean.detach(), rtol=1e-10, atol=0, check_dtype=False)
    for name, grad in zip(leaves, torch.autograd.grad(mean, list(leaves.values())), strict=True):
        torch.testing.assert_close(grads[name], grad, rtol=1e-9, atol=1e-12)
