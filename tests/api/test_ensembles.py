"""An ensemble through the pipeline trains its members as separate runs do."""

import pytest
import torch

import funpipe as fp
from tests.api.transforms import batch_of, net, params_of, plain

MEMBERS = [params_of(seed) for seed in range(3)]
OPTIMIZERS = {"sgd": fp.optim.sgd(0.3, momentum=0.9), "adamw": fp.optim.adamw(0.05, weight_decay=0.1)}


def trained(loss_fn, params, optimizer, batches, **how):
    """The parameters after a step on each batch, and the last step's metrics."""
    step = fp.train_step(loss_fn, optimizer, num_microbatches=2, backend="interpret", **how)
    state, metrics = step.init(params, batches[0]), {}
    for batch in batches:
        state, metrics = step(state, batch)
    return step.gather(state)[0], metrics


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("stages", [None, 2])
def test_members_are_separate_trainings(name, stages):
    batches = [batch_of(seed) for seed in range(3)]
    alone = [trained(plain, member, OPTIMIZERS[name], batches, stages=1) for member in MEMBERS]
    found, metrics = trained(
        fp.ensemble(plain), fp.stack(MEMBERS), OPTIMIZERS[name], batches, stages=stages, schedule="gpipe"
    )
    for member, (wanted, _) in zip(fp.unstack(found), alone, strict=True):
        torch.testing.assert_close(member, wanted, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(metrics["losses"], torch.stack([m["loss"] for _, m in alone]))


def test_by_hand():
    """Without a transform of ours: the mean over the members divides every member's gradient by their number."""
    f = fp.value_and_grad(
        lambda p, b: torch.func.vmap(plain, (0, None))(p, b).mean(), stages=2, num_microbatches=2, backend="interpret"
    )
    loss, grads = f(fp.stack(MEMBERS), batch_of())
    wanted = [torch.func.grad_and_value(plain)(member, batch_of()) for member in MEMBERS]
    torch.testing.assert_close(loss, torch.stack([value for _, value in wanted]).mean())
    for member, (grad, _) in zip(fp.unstack(grads), wanted, strict=True):
        torch.testing.assert_close(member, {n: g / 3 for n, g in grad.items()}, rtol=1e-9, atol=1e-11)


def test_clipping_is_of_the_norm_of_all_members():
    optimizer = fp.optim.chain(fp.optim.clip_by_global_norm(0.01), fp.optim.sgd(1.0))
    found, _ = trained(fp.ensemble(plain), fp.stack(MEMBERS), optimizer, [batch_of()], stages=2)
    moved = torch.cat([(found[n] - fp.stack(MEMBERS)[n]).flatten() for n in found])
    torch.testing.assert_close(moved.norm(), torch.tensor(0.01, dtype=torch.float64), rtol=1e-3, atol=0)


def test_members_with_a_key_draw_their_own():
    def loss(params, batch, *, key):
        kept = fp.random.bernoulli(key, 0.5, batch["x"].shape)
        return (net(params, batch["x"] * kept) - batch["y"]).square().mean()

    same = fp.stack([MEMBERS[0]] * 3)
    _, metrics = trained(fp.ensemble(loss), same, OPTIMIZERS["sgd"], [batch_of()], stages=2, key=0)
    assert len(set(metrics["losses"].tolist())) == 3
