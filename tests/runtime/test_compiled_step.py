"""Steps as a user calls them: their trees, what is consumed, errors, and two real processes."""

import re
from collections.abc import Callable
from typing import Any

import optree
import pytest
import torch
from torch import Tensor

import funpipe as fp
from funpipe._errors import BatchError, FunpipeError, FunpipeTypeError, MeshError, StateError, TreeError

Tree = Any
SIZES = (4, 3)
OPTIMIZER = fp.optim.adam(1e-2)


def loss_of(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    return ((batch["x"] @ params["w"] + params["b"]) - batch["y"]).square().mean()


def train(state: Tree, batch: dict[str, Tensor]) -> tuple[Tree, dict[str, Tensor]]:
    grads, loss = torch.func.grad_and_value(loss_of)(state["params"], batch)
    grads = fp.pmean(grads, "dp")
    params, slots = fp.optim.apply(OPTIMIZER, state["params"], grads, state["slots"], state["step"])
    return {"params": params, "slots": slots, "step": state["step"] + 1}, {"loss": loss}


def first_state() -> Tree:
    random = torch.Generator().manual_seed(0)
    params = {"w": torch.randn(3, 2, generator=random), "b": torch.zeros(2)}
    return {"params": params, "slots": OPTIMIZER.init(params), "step": torch.tensor(0)}


def batch(seed: int, rows: int = 4) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {"x": torch.randn(rows, 3, generator=random), "y": torch.randn(rows, 2, generator=random)}


def traced(mesh: Any = None) -> fp.graphs.Step:
    return fp.trace_step(train, first_state(), batch(0), mesh=mesh)


def compiled(*passes: Any, backend: str = "interpret") -> Any:
    return fp.compile_step(traced(), backend=backend, passes=passes)


def copied(tree: Tree) -> Tree:
    return optree.tree_map(torch.clone, tree)


def equal(one: Tree, other: Tree) -> bool:
    pairs = zip(optree.tree_leaves(one), optree.tree_leaves(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def fold(step: Callable[[Tree, Tree], tuple[Tree, Tree]], state: Tree, count: int) -> Tree:
    for seed in range(count):
        state, _ = step(state, batch(seed))
    return state


def eager(state: Tree, rows: Tree) -> tuple[Tree, Tree]:
    """The step on one rank, without a graph: a mean over one replica is what it is a mean of."""
    grads, loss = torch.func.grad_and_value(loss_of)(state["params"], rows)
    params, slots = fp.optim.apply(OPTIMIZER, state["params"], grads, state["slots"], state["step"])
    return {"params": params, "slots": slots, "step": state["step"] + 1}, {"loss": loss}


def test_it_runs_over_the_users_trees():
    state, aux = compiled()(first_state(), batch(0))
    wanted, results = eager(first_state(), batch(0))
    assert equal(state, wanted) and equal(aux, results)


def test_a_state_that_is_not_donated_stays_usable():
    step, state = compiled(), first_state()
    assert equal(step(state, batch(1)), step(state, batch(1)))
    assert equal(state, first_state())


def test_a_donated_state_is_consumed():
    step, state = compiled(fp.passes.donate()), first_state()
    wanted = fold(compiled(), first_state(), 2)
    new, _ = step(state, batch(0))
    with pytest.raises(
        StateError, match=r"'state\.params\.b' was consumed by the step.*state, aux = step\(state, batch\)"
    ):
        step(state, batch(1))
    with pytest.raises(StateError, match="was consumed"):
        compiled()(state, batch(1))
    assert equal(step(new, batch(1))[0], wanted)


def test_what_a_donated_step_returns_is_not_overwritten_by_the_next():
    def swap(state: Tree, rows: Tree) -> tuple[Tree, Tree]:
        return {"a": state["a"] + rows, "kept": rows}, {"old": state["a"], "new": state["a"] + rows}

    state, rows = {"a": torch.ones(2), "kept": torch.zeros(2)}, torch.ones(2)
    step = fp.compile_step(fp.trace_step(swap, state, rows), backend="interpret", passes=fp.passes.donate())
    state, first = step(state, rows)
    step(state, rows)
    assert first["old"].tolist() == [1, 1] and first["new"].tolist() == [2, 2] and rows.tolist() == [1, 1]


def test_a_tied_leaf_is_not_updated_twice_in_place():
    def add(state: Tree, rows: Tensor) -> tuple[Tree, Tensor]:
        return {name: leaf + rows for name, leaf in state.items()}, rows.sum()

    tied = torch.ones(2)
    step = fp.compile_step(
        fp.trace_step(add, {"a": tied, "b": tied}, torch.ones(2)), backend="interpret", passes=fp.passes.donate()
    )
    state, _ = step({"a": tied, "b": tied}, torch.ones(2))
    assert state["a"].tolist() == [2, 2] == state["b"].tolist()


def test_a_constant_that_is_a_leaf_at_first_keeps_its_value():
    start = torch.ones(2)

    def step(leaf: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return leaf + rows, leaf - start

    train = fp.compile_step(fp.trace_step(step, start, torch.ones(2)), backend="interpret", passes=fp.passes.donate())
    state, _ = train(start, torch.ones(2))
    assert train(state, torch.ones(2))[1].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (
            lambda s, b: (s, batch(0, rows=5)),
            BatchError,
            r"batch: leaf 'x' is float32\[5,3\].*traced with float32\[4,3\].*trace the step again",
        ),
        (lambda s, b: (s, {"x": b["x"]}), TreeError, "'y'"),
        (
            lambda s, b: ({**s, "step": torch.tensor(0.0)}, b),
            TreeError,
            r"state: leaf 'step' is float32\[\], .* int64\[\]",
        ),
        (lambda s, b: ({**s, "step": 0}, b), FunpipeTypeError, "state: leaf 'step' is of type int; pass a tensor"),
    ],
)
def test_wrong_arguments_are_errors_that_name_the_leaf(change: Any, error: type[Exception], text: str):
    with pytest.raises(error, match=text):
        compiled()(*change(first_state(), batch(0)))


def test_a_wrong_batch_leaves_a_donated_state_usable():
    step, state = compiled(fp.passes.donate()), first_state()
    with pytest.raises(BatchError):
        step(state, batch(0, rows=5))
    step(state, batch(0))


def test_a_batch_in_other_strides_is_laid_out():
    rows = batch(0)
    rows["x"] = rows["x"].t().contiguous().t()
    assert equal(compiled()(first_state(), rows), compiled()(first_state(), batch(0)))


def test_a_step_that_raises_leaves_its_donated_state_unfinished():
    step, state = compiled(fp.passes.donate()), first_state()
    step.compiled.run = lambda communicator, inputs: 1 / 0
    with pytest.raises(ZeroDivisionError):
        step(state, batch(0))
    with pytest.raises(StateError, match="raised or was interrupted, so the state may be half updated"):
        step(state, batch(0))


def test_what_cannot_be_compiled_is_named():
    with pytest.raises(FunpipeTypeError, match=r"compile_step takes a traced step, and was given a function"):
        fp.compile_step(train)  # type: ignore[call-overload]
    with pytest.raises(FunpipeError, match="there is no backend 'regions' for graphs; use 'step' or 'interpret'"):
        compiled(backend="regions")
    with pytest.raises(MeshError, match=r"traced for pp=1, dp=2, and compiled with mesh=None"):
        fp.compile_step(traced(fp.MeshShape(1, 2)))


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_rotated_step_obeys_its_law(count: int):
    step = traced()
    rotated = fp.compile_step(fp.passes.rotate(step, fp.passes.updates(["params.w"])), backend="interpret")
    flushed = rotated.flush(fold(rotated.step, rotated.init(first_state()), count))
    assert equal(flushed.state, fold(compiled(), first_state(), count))


def results_of_two(backend: str) -> dict[str, Any]:
    """Everything that two processes are asked, on each of them."""
    torch.set_num_threads(1)
    mesh = fp.mesh(pp=1, dp=2, device="cpu", timeout=60)
    rank = mesh.dp_rank
    mine = [batch(2 * i + rank) for i in range(5)]
    made = fp.passes.compose(fp.passes.fuse_updates())(traced(mesh))  # leaves little to compile
    step = fp.compile_step(made, mesh=mesh, backend=backend)  # type: ignore[arg-type]
    found: dict[str, Any] = {"states": [], "text": step.as_text()}
    state = first_state()
    for rows in mine:
        state, _ = step(state, rows)
        found["states"].append(state)
    passes = (fp.passes.bucket(mode="coalesced"), fp.passes.update_early(), fp.passes.donate())
    other = fp.compile_step(made, mesh=mesh, backend=backend, passes=passes)  # type: ignore[arg-type]
    state = first_state()
    for rows in mine:
        state, _ = other(state, rows)
    found["donated"] = state
    later = fp.passes.rotate(made, fp.passes.waits())
    rotated = fp.compile_step(later, mesh=mesh, backend=backend)  # type: ignore[arg-type]
    for count in (0, 1, 2, 5):
        pending = rotated.init(first_state())
        for rows in mine[:count]:
            pending, _ = rotated.step(pending, rows)
        found[f"rotated {count}"] = rotated.flush(pending).state
    found["rotated refused"] = refused_and_gone_on(rotated, mine, rank)
    found["errors"] = errors_of_two(mesh, step, rank)
    return found


def refused_and_gone_on(rotated: Any, mine: list[Tree], rank: int) -> tuple[str, Tree]:
    """What both ranks raise where one has a wrong batch in its second step, and the state after the right one."""
    pending, _ = rotated.step(rotated.init(first_state()), mine[0])
    with pytest.raises(FunpipeError) as caught:
        rotated.step(pending, batch(0, rows=4 + rank))
    pending, _ = rotated.step(pending, mine[1])
    return str(caught.value), rotated.flush(pending).state


def refuse(graph: fp.graphs.Graph) -> fp.graphs.Graph:
    raise FunpipeError("not this one")


def errors_of_two(mesh: fp.Mesh, step: Any, rank: int) -> list[str]:
    """What both ranks raise where one of them is wrong."""
    factor, refusing = 0.5 if rank else 0.25, fp.passes.Pass("refusing", refuse)
    unlike = fp.trace_step(lambda s, b: (s + factor * fp.psum(b, "dp"), b), torch.ones(2), torch.ones(2), mesh=mesh)
    calls = [
        lambda: step(first_state(), batch(0, rows=4 + rank)),
        lambda: fp.compile_step(unlike, mesh=mesh, backend="interpret"),
        lambda: fp.compile_step(unlike, mesh=mesh, backend="interpret", passes=[refusing] if rank else []),
    ]
    texts = []
    for call in calls:
        try:
            call()
        except FunpipeError as error:
            texts.append(f"{type(error).__name__}: {error}")
    return texts


@pytest.fixture(scope="module", params=["interpret", "step"])
def two(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return fp.launch(results_of_two, 2, request.param, timeout=170)


def reference() -> list[Tree]:
    """The step on both batches as one: the mean of equal parts' means is the mean of all."""
    state, states = first_state(), []
    for i in range(5):
        parts = batch(2 * i), batch(2 * i + 1)
        state, _ = eager(state, {name: torch.cat([part[name] for part in parts]) for name in parts[0]})
        states.append(state)
    return states


def close(one: Tree, other: Tree) -> bool:
    pairs = zip(optree.tree_leaves(one), optree.tree_leaves(other), strict=True)
    return all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)


def test_two_processes_compute_what_one_does_on_both_batches(two: list[dict[str, Any]]):
    for found in two:
        assert all(close(a, b) for a, b in zip(found["states"], reference(), strict=True))
    assert equal(two[0]["states"], two[1]["states"])


def test_passes_and_donation_change_nothing(two: list[dict[str, Any]]):
    assert all(close(found["donated"], found["states"][-1]) for found in two)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_law_of_rotate_holds_on_two_processes(two: list[dict[str, Any]], count: int):
    for found in two:
        wanted = found["states"][count - 1] if count else first_state()
        assert equal(found[f"rotated {count}"], wanted)


def test_a_wrong_batch_on_one_rank_is_an_error_on_both(two: list[dict[str, Any]]):
    assert "global rank 1 cannot run this step, so no rank does" in two[0]["errors"][0]
    assert "batch: leaf 'x' is float32[5,3]" in two[1]["errors"][0]


def test_a_wrong_batch_on_one_rank_leaves_the_pending_states_of_both_usable(two: list[dict[str, Any]]):
    assert "global rank 1 cannot run this step, so no rank does" in two[0]["rotated refused"][0]
    assert "batch: leaf 'x' is float32[5,3]" in two[1]["rotated refused"][0]
    assert all(equal(found["rotated refused"][1], found["states"][1]) for found in two)


def test_ranks_with_other_graphs_do_not_start(two: list[dict[str, Any]]):
    for found in two:
        text = found["errors"][1]
        assert text.startswith("MeshError: the ranks compile different graphs: global rank 1 differs from rank 0 in")
        assert "0.25" in text and "0.5" in text


def test_passes_that_do_not_fit_are_errors_of_compose():
    with pytest.raises(FunpipeError, match="is no pass"):
        fp.compile_step(traced(), backend="interpret", passes=fp.passes.bucket)  # type: ignore[call-overload]
    one = fp.compile_step(traced(), backend="interpret", passes=fp.passes.donate())
    pipeline = fp.compile_step(traced(), backend="interpret", passes=fp.passes.compose(fp.passes.donate()))
    assert repr(one) == repr(pipeline)
    assert re.fullmatch(r"CompiledStep\(\d+ nodes, 7 leaves of state, 2 leaves of the batch, donated\)", repr(one))


def test_passes_that_raise_on_one_rank_are_an_error_on_both(two: list[dict[str, Any]]):
    assert "global rank 1 could not compile its part of the step, so no rank runs it" in two[0]["errors"][2]
    assert two[1]["errors"][2] == "FunpipeError: not this one"
