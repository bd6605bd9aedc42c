import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funpipe._errors import BatchError, TreeError
from funpipe._typing import TensorType
from funpipe.functional import microbatch


def same(a, b):
    """Equal structure, and equal leaves."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


@st.composite
def batches(draw):
    """A batch with rows along various dimensions, its spec, and a number of microbatches that divides it."""
    n, size = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    dtypes = st.sampled_from([torch.float64, torch.float32, torch.int64])

    def leaf():
        shape = draw(st.lists(st.integers(1, 3), max_size=2))
        dim = draw(st.none() | st.integers(0, len(shape)))
        if dim is not None:
            shape.insert(dim, n * size)
        return torch.arange(torch.Size(shape).numel()).reshape(shape).to(draw(dtypes)), dim

    (a, da), (b, db), (c, dc) = leaf(), leaf(), leaf()
    return {"x": (a, [b]), "y": {"z": c}, "none": None}, {"x": (da, [db]), "y": {"z": dc}, "none": 0}, n


@given(batches())
def test_merge_undoes_split(drawn):
    batch, spec, n = drawn
    assert same(microbatch.merge(microbatch.split(batch, n, spec), spec), batch)


@given(batches())
def test_map_is_the_same_both_ways(drawn):
    batch, spec, n = drawn

    def fn(part):
        (a, [b]), c = part["x"], part["y"]["z"]
        return {"sum": a.double().sum() * b.double().sum(), "rows": (c * 2, [a]), "constant": torch.ones(2)}

    sequential = microbatch.map(fn, batch, n, spec, how="sequential")
    assert same(microbatch.map(fn, batch, n, spec, how="vmap"), sequential)
    assert sequential["constant"].shape == (n, 2)


@given(batches())
def test_map_stacks_what_it_gets_for_each_microbatch(drawn):
    batch, spec, n = drawn
    stacked = microbatch.map(lambda part: part, batch, n, spec)
    for i, part in enumerate(microbatch.split(batch, n, spec)):
        assert same(part["x"][0], stacked["x"][0][i])


@given(batches(), st.integers(1, 5))
def test_pad_keeps_the_rows_and_divides(drawn, n):
    batch, spec, _ = drawn
    split_dims = [d for d in (spec["x"][0], spec["x"][1][0], spec["y"]["z"]) if d is not None]
    if not split_dims:
        return
    padded, mask = microbatch.pad(batch, n, spec)
    rows = int(mask.sum())
    assert len(mask) % n == 0
    assert len(mask) - rows < n
    assert bool(mask[:rows].all())
    for leaf, original, dim in zip(
        (padded["x"][0], padded["x"][1][0]),
        (batch["x"][0], batch["x"][1][0]),
        (spec["x"][0], spec["x"][1][0]),
        strict=True,
    ):
        assert torch.equal(leaf if dim is None else leaf.narrow(dim, 0, rows), original)
        assert dim is None or all(torch.equal(row, original.select(dim, -1)) for row in leaf.unbind(dim)[rows:])
    microbatch.split(padded, n, spec)


@given(batches())
def test_the_type_of_a_microbatch_is_that_of_each(drawn):
    batch, spec, n = drawn
    types = microbatch.type_of_microbatch(batch, n, spec)
    for part in microbatch.split(batch, n, spec):
        assert TensorType.of(part["x"][0]) == types["x"][0]
        assert TensorType.of(part["y"]["z"]) == types["y"]["z"]


def test_split_gives_views_of_consecutive_rows():
    x = torch.arange(6)
    parts = microbatch.split(x, 3)
    assert [part.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert parts[0].data_ptr() == x.data_ptr()


def test_replicated_leaves_are_the_same_object():
    batch = {"x": torch.arange(2), "name": ["text"]}
    parts = microbatch.split(batch, 2, {"x": 0, "name": None})
    assert parts[0]["name"][0] is parts[1]["name"][0]


def test_a_batch_of_replicated_leaves_only():
    assert len(microbatch.split(torch.ones(3), 2, None)) == 2
    for how in ("sequential", "vmap"):
        assert microbatch.map(lambda x: x.sum(), torch.ones(3), 2, None, how).tolist() == [3, 3]


def test_types_of_a_meta_batch():
    types = microbatch.type_of_microbatch({"x": torch.empty(8, 3, device="meta")}, 4)
    assert types == {"x": TensorType((2, 3), (3, 1), torch.float32, "meta")}


def test_types_of_a_batch_with_a_leaf_that_is_no_tensor():
    with pytest.raises(TreeError, match=r"batch: leaf 'name' is of type str, not a tensor"):
        microbatch.type_of_microbatch({"x": torch.ones(2), "name": "text"}, 2, {"x": 0, "name": None})


def test_gradients_through_both_maps_agree():
    w, x = torch.randn(3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)

    def loss(w, how):
        return microbatch.map(lambda x: (x @ w).square().mean(), x, 3, how=how).mean()

    torch.testing.assert_close(torch.func.grad(loss)(w, "vmap"), torch.func.grad(loss)(w, "sequential"))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: microbatch.split(x, 4),
        lambda x: microbatch.map(lambda x: x, x, 4),
        lambda x: microbatch.map(lambda x: x, x, 4, how="vmap"),
        lambda x: microbatch.type_of_microbatch(x, 4),
    ],
)
def test_uneven_batches_are_refused_everywhere(call):
    with pytest.raises(
        BatchError, match=r"leaf 'x' .* has 6 rows along dimension 0, which 4 microbatches do not divide"
    ):
        call({"x": torch.ones(6)})


def test_pad_of_a_batch_that_divides_adds_nothing():
    x = torch.ones(4)
    padded, mask = microbatch.pad(x, 2)
    assert padded is x
    assert mask.tolist() == [True] * 4


def test_pad_of_replicated_leaves_only():
    with pytest.raises(
        BatchError, match=r"pad: every leaf of the batch is replicated; give the batch dimension of one"
    ):
        microbatch.pad(torch.ones(3), 2, None)


def test_merge_of_nothing():
    with pytest.raises(BatchError, match=r"merge got no microbatches; pass at least one\."):
        microbatch.merge([])


def test_merge_of_different_structures():
    with pytest.raises(
        TreeError, match=r"merge: microbatch 1 is .*\{'b'.* but microbatch 0 is .*'a'.* all one structure\."
    ):
        microbatch.merge([{"a": torch.ones(1)}, {"b": torch.ones(1)}])


@pytest.mark.parametrize("other", [torch.ones(2, 4), torch.ones(2, 3, dtype=torch.float64)])
def test_merge_of_leaves_that_do_not_fit(other):
    with pytest.raises(BatchError) as error:
        microbatch.merge([{"a": torch.ones(1, 3)}, {"a": other}])
    assert str(error.value) == (
        f"merge: leaf 'a' ({TensorType.of(other)}) of microbatch 1 does not fit "
        "leaf 'a' (float32[1,3]) of microbatch 0; only the sizes along dimension 0 may differ."
    )


@pytest.mark.parametrize("how", ["sequential", "vmap"])
def test_map_of_a_function_that_returns_no_tensor(how):
    with pytest.raises(TreeError, match=r"map's fn returned: leaf 'a' is of type int, not a tensor"):
        microbatch.map(lambda x: {"a": 1}, torch.ones(2), 2, how=how)


def test_map_of_a_function_whose_results_differ():
    results = iter([torch.ones(1), torch.ones(2)])
    with pytest.raises(TreeError) as error:
        microbatch.map(lambda x: next(results), torch.ones(2), 2)
    assert str(error.value) == (
        "map: fn returned {out: float32[2]} for microbatch 1, but {out: float32[1]} for microbatch 0; "
        "return the same structure, shapes and dtypes for each."
    )


def test_map_in_an_unknown_way():
    with pytest.raises(BatchError, match=r"map: how is 'parallel'; use 'sequential' or 'vmap'\."):
        microbatch.map(lambda x: x, torch.ones(2), 2, how="parallel")  # type: ignore[arg-type]


def test_numbers_are_those_of_the_microbatch_that_each_row_is_in():
    found = [part["n"].tolist() for part in microbatch.split({"n": microbatch.numbers(6, 3, first=3)}, 3)]
    assert found == [[3, 3], [4, 4], [5, 5]]
    with pytest.raises(BatchError, match="which 4 microbatches do not divide"):
        microbatch.numbers(6, 4)
