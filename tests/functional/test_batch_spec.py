import pytest
import torch

from funpipe._errors import BatchError
from funpipe.functional.batch_spec import check_divides, resolve, rows_of


def dims(batch, spec):
    return {leaf.name: leaf.dim for leaf in resolve(batch, spec)[0]}


def leaves(*shapes):
    return resolve([torch.zeros(shape) for shape in shapes])[0]


def test_one_dimension_for_all_leaves():
    assert dims({"a": torch.zeros(2, 3), "b": [torch.zeros(2)]}, 0) == {"a": 0, "b.0": 0}


def test_a_prefix_reaches_down_to_the_leaves():
    batch = {"x": (torch.zeros(3, 2), [torch.zeros(4, 2)]), "mask": {"m": torch.zeros(5)}}
    assert dims(batch, {"x": 1, "mask": None}) == {"x.0": 1, "x.1.0": 1, "mask.m": None}


def test_negative_dimensions_count_from_the_end():
    assert dims(torch.zeros(2, 3), -1) == {"": 1}


def test_none_in_a_batch_is_replicated():
    assert dims({"x": torch.zeros(2), "y": None}, 0) == {"x": 0, "y": None}


def test_a_replicated_leaf_may_be_anything():
    assert dims({"x": torch.zeros(2), "name": "text"}, {"x": 0, "name": None}) == {"x": 0, "name": None}


def test_a_spec_that_is_no_prefix():
    with pytest.raises(
        BatchError, match=r"batch_spec \{'x': 0\} is no prefix of the batch: .*'y'.*Give an int or None"
    ):
        resolve({"x": torch.zeros(2), "y": torch.zeros(2)}, {"x": 0})


@pytest.mark.parametrize("dim", ["0", 0.0, True])
def test_a_spec_of_another_type(dim):
    with pytest.raises(
        BatchError, match=r"batch_spec of leaf 'x' is .*; give the batch dimension as an int, or None\."
    ):
        resolve({"x": torch.zeros(2)}, {"x": dim})


def test_a_leaf_without_the_dimension():
    with pytest.raises(
        BatchError, match=r"batch: leaf 'x' \(float32\[2\]\) has no dimension 1; give its batch dimension"
    ):
        resolve({"x": torch.zeros(2)}, 1)
    with pytest.raises(BatchError, match=r"the only leaf \(float32\[\]\) has no dimension 0; .* or None"):
        resolve(torch.tensor(1.0))


def test_a_split_leaf_that_is_no_tensor():
    with pytest.raises(
        BatchError, match=r"batch: leaf 'flag' is of type bool, not a tensor;.*give it None in batch_spec"
    ):
        resolve({"flag": True})


def test_rows():
    assert rows_of(leaves((4, 2), (4,))) == 4
    assert rows_of(resolve("text", None)[0]) is None


def test_leaves_that_disagree_are_both_named():
    with pytest.raises(BatchError) as error:
        rows_of(leaves((4, 2), (5,)))
    assert str(error.value) == (
        "batch: leaf '0' (float32[4,2]) has 4 rows along dimension 0, "
        "but leaf '1' (float32[5]) has 5 along dimension 0; make them equal, or name the batch dimension of each leaf "
        "in batch_spec (None for a replicated leaf)."
    )


def test_no_rows():
    with pytest.raises(
        BatchError, match=r"leaf '0' \(float32\[0,2\]\) has no rows along dimension 0; pass a batch of at"
    ):
        rows_of(leaves((0, 2)))


def test_an_uneven_batch_says_what_divides_it():
    with pytest.raises(BatchError) as error:
        check_divides(leaves((12, 2)), 5)
    assert str(error.value) == (
        "batch: leaf '0' (float32[12,2]) has 12 rows along dimension 0, which 5 microbatches do not divide; "
        "use 4 or 6 microbatches, or 10 or 15 rows, or fill up with fp.microbatch.pad(batch, 5)."
    )


def test_more_microbatches_than_rows():
    with pytest.raises(BatchError, match=r"use 3 microbatches, or 8 rows, or fill up"):
        check_divides(leaves((3,)), 8)


@pytest.mark.parametrize("n", [0, -1, 1.0, True, "2"])
def test_impossible_numbers_of_microbatches(n):
    with pytest.raises(BatchError, match=r"the number of microbatches is .*; pass an int of at least 1\."):
        check_divides(leaves((4,)), n)
