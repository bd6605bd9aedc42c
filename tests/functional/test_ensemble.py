import pytest
import torch

import funpipe as fp
from funpipe._errors import FunpipeTypeError, LossError, TreeError

X = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]])


def loss(params, batch):
    return (batch @ params["w"]).square().mean()


def members(count=3, seed=0):
    made = torch.Generator().manual_seed(seed)
    return [{"w": torch.randn(2, generator=made)} for _ in range(count)]


def test_the_loss_is_the_sum_and_each_member_has_its_own_gradient():
    alone = [torch.func.grad_and_value(loss)(m, X) for m in members()]
    out = fp.ensemble(loss)(fp.stack(members()), X)
    torch.testing.assert_close(out.aux["losses"].value, torch.stack([value for _, value in alone]))
    torch.testing.assert_close(out.loss, torch.stack([value for _, value in alone]).sum())
    grads = torch.func.grad(lambda p: fp.ensemble(loss)(p, X).loss)(fp.stack(members()))
    torch.testing.assert_close(fp.unstack(grads), [grad for grad, _ in alone])


def test_by_hand_it_is_vmap():
    by_hand = torch.func.vmap(loss, (0, None))(fp.stack(members()), X)
    torch.testing.assert_close(fp.ensemble(loss)(fp.stack(members()), X).aux["losses"].value, by_hand)


def test_members_with_batches_of_their_own():
    batches = torch.stack([X, 2 * X, -X], 1)
    out = fp.ensemble(loss, in_dims=(0, 1))(fp.stack(members()), batches)
    wanted = [loss(m, batches[:, i]) for i, m in enumerate(members())]
    torch.testing.assert_close(out.aux["losses"].value, torch.stack(wanted))


def test_a_leaf_that_all_members_share():
    shared = {"w": fp.stack(members())["w"], "b": torch.tensor(2.0)}
    out = fp.ensemble(lambda p, x: loss(p, x) + p["b"], in_dims=({"w": 0, "b": None}, None))(shared, X)
    torch.testing.assert_close(out.aux["losses"].value, torch.stack([loss(m, X) + 2 for m in members()]))


def test_weights_are_those_of_the_shared_batch():
    def weighted(params, batch):
        return fp.Weighted((batch @ params["w"]).square().sum(), torch.tensor(3))

    out = fp.ensemble(weighted)(fp.stack(members()), X)
    torch.testing.assert_close(out.loss.sum / out.loss.weight, fp.ensemble(loss)(fp.stack(members()), X).loss)
    assert out.aux["weight"].value == 3


def test_weights_that_differ_between_members():
    def weighted(params, batch):
        return fp.Weighted((batch @ params["w"]).square().sum(), batch.abs().sum())

    with pytest.raises(
        LossError, match=r"the weight of fp\.Weighted differs between the members .*in_dims=\(0, None\)"
    ):
        fp.ensemble(weighted, in_dims=(0, 0))(fp.stack(members(2)), torch.stack([X, X]))


def test_aux_and_buffers_are_the_members_own():
    def full(params, batch, *, buffers):
        rows = batch @ params["w"]
        return fp.Out(rows.mean(), {"top": fp.max(rows.amax()), "rows": fp.cat(rows)}, {"n": buffers["n"] + 1})

    out = fp.ensemble(full)(fp.stack(members()), X, buffers={"n": torch.zeros(3)})
    assert out.aux["top"].value.shape == (3,)
    torch.testing.assert_close(out.aux["rows"].value, torch.stack([X @ m["w"] for m in members()], 1))
    torch.testing.assert_close(out.buffers, {"n": torch.ones(3)})


def test_each_member_has_a_key_of_its_own():
    def drawing(params, batch, *, key):
        return (params["w"] * fp.random.normal(key, (2,))).sum()

    same = fp.stack([members(1)[0]] * 3)
    first = fp.ensemble(drawing)(same, X, key=fp.random.key(0)).aux["losses"].value
    again = fp.ensemble(drawing)(same, X, key=fp.random.key(0)).aux["losses"].value
    assert torch.equal(first, again) and len(set(first.tolist())) == 3


def test_leaves_that_count_different_numbers_of_members():
    with pytest.raises(TreeError, match=r"leaf 'b' counts 2 members, but leaf 'a' counts 3; stack the members' trees"):
        fp.ensemble(loss)({"a": torch.ones(3), "b": torch.ones(2)}, X)
    with pytest.raises(TreeError, match="has no dimension 0 that counts members"):
        fp.unstack({"a": torch.tensor(1.0)})


def test_in_dims_are_a_pair():
    with pytest.raises(FunpipeTypeError, match=r"in_dims is 0; give a pair"):
        fp.ensemble(loss, in_dims=0)
