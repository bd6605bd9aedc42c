"""A batch as the inputs of a step, and what a later one may change."""

import pytest
import torch

import funpipe as fp
from funpipe._errors import BatchError, TreeError
from funpipe.runtime.inputs import BatchInputs, one_microbatch, signature


def of(batch, count=2, spec=0, like=None):
    return BatchInputs.of(batch, count, spec, like)


def test_leaves_go_by_their_names_with_the_dimension_they_are_split_along():
    batch = {"x": [torch.ones(3, 4), torch.ones(4, 2)], "mask": torch.ones(5), "none": None}
    found = of(batch, spec={"x": [1, 0], "mask": None, "none": None})
    assert found.dims == {"mask": None, "x.0": 1, "x.1": 0}
    assert list(found.leaves) == ["mask", "x.0", "x.1"]


def test_the_key_is_names_shapes_and_dtypes_alone():
    assert of(torch.ones(4, 2)).key == of(torch.zeros(2, 4).t()).key == of(torch.ones(4, 2, device="meta")).key
    assert of(torch.ones(4, 2)).key != of(torch.ones(4, 2).double()).key
    assert of({"a": torch.ones(4)}).key != of({"b": torch.ones(4)}).key


def test_batches_of_one_signature_have_one_key_and_digest():
    batch = {"x": torch.ones(4, 2), "y": [torch.ones(4).int()]}
    first, (leaves, key) = of(batch), signature({"x": torch.zeros(2, 4).t(), "y": [torch.zeros(4).int()]})
    assert key == signature(batch)[1]
    again = first.with_leaves(leaves)
    assert (again.key, again.digest, again.dims) == (first.key, first.digest, first.dims)
    assert again.leaves["x"] is leaves[0]


@pytest.mark.parametrize(
    "other", [{"x": torch.ones(4)}, {"x": torch.ones(2).int()}, {"y": torch.ones(2)}, [torch.ones(2)]]
)
def test_other_batches_have_another_signature_and_digest(other):
    batch = {"x": torch.ones(2)}
    assert signature(batch)[1] != signature(other)[1]
    assert of(batch).digest != of(other).digest


def test_what_is_neither_tensor_nor_constant_has_no_signature():
    assert signature({"x": object(), "y": torch.ones(2)}) == ([], None)


def test_sizes_may_change_and_are_named():
    first, second = of({"x": torch.ones(4, 2), "y": torch.ones(4)}), {"x": torch.ones(6, 2), "y": torch.ones(6)}
    found = of(second, like=first)
    assert (
        first.difference_text(found)
        == "leaf 'x' is float32[6,2], not float32[4,2]; leaf 'y' is float32[6], not float32[4]"
    )


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        ({"x": torch.ones(4, 2).int()}, r"leaf 'x' is int32\[4,2\], but was float32\[4,2\] .* pass float32 with 2 dim"),
        ({"x": torch.ones(4)}, r"leaf 'x' is float32\[4\], but was float32\[4,2\] .* only sizes may change"),
        ({"y": torch.ones(4, 2)}, "batch: unknown leaf 'y'"),
        ({}, "batch: missing 'x'"),
        ({"x": None}, "batch: missing 'x'"),
        ({"x": torch.ones(4, 2), "y": torch.ones(4)}, "batch: unknown leaf 'y'; the nearest names are 'x'"),
    ],
)
def test_anything_else_that_changes_is_an_error(batch, text):
    with pytest.raises(TreeError, match=text):
        of(batch, like=of({"x": torch.ones(4, 2)}))


def test_what_changed_is_said_before_that_it_does_not_divide():
    with pytest.raises(TreeError, match="float64"):
        of(torch.ones(3, 2).double(), like=of(torch.ones(4, 2)))
    with pytest.raises(BatchError, match="3 rows along dimension 0, which 2 microbatches do not divide"):
        of(torch.ones(3, 2), like=of(torch.ones(4, 2)))


def test_one_microbatch_is_the_first_and_takes_no_memory():
    batch = {"x": torch.arange(24).view(3, 8), "mask": torch.ones(5)}
    found = one_microbatch(batch, 4, {"x": 1, "mask": None})
    assert torch.equal(found["x"], batch["x"][:, :2]) and found["mask"] is batch["mask"]
    assert found["x"].untyped_storage().data_ptr() == batch["x"].untyped_storage().data_ptr()


def test_what_a_step_keeps_of_a_batch_is_not_part_of_a_graph():
    params, batch = {"w": torch.ones(2)}, torch.ones(4, 2)
    step = fp.train_step(lambda p, b: (b * p["w"]).mean(), fp.optim.sgd(0.1), num_microbatches=2, backend="interpret")
    step(step.init(params, batch), batch.clone().requires_grad_() * 2)
    kept = [leaf for inputs in step._engine.known.values() for leaf in inputs.leaves.values()]
    assert kept and not any(leaf.requires_grad for leaf in kept)
