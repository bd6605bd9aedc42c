import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from funpipe.interop.spmd.api import COMPILED_OBJECT_KEY, Override, compile
from tests.interop.spmd.models import adam, batches, same, train_step, twins

SGD = torch.optim.SGD
OPTIMIZERS = {
    "adam": adam(),
    "adam, foreach": adam(foreach=True),
    "adam, fused": adam(fused=True),
    "adam, for loop, amsgrad": adam(foreach=False, amsgrad=True, weight_decay=0.1),
    "adam, fused, amsgrad": adam(fused=True, amsgrad=True, weight_decay=0.1),
    "adam, foreach, maximize": adam(foreach=True, maximize=True),
    "adam, fused, capturable": adam(fused=True, capturable=True),
    "adam, fused, tensor lr": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01), fused=True),
    "adamw, fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adamw, foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "sgd": lambda p: SGD(p, lr=0.01),
    "sgd, momentum": lambda p: SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "sgd, foreach": lambda p: SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1, foreach=True),
    "sgd, fused": lambda p: SGD(p, lr=0.01, momentum=0.9, fused=True),
}


def check(make, step=train_step, count=3, model=None, data=None, between=lambda i, optimizers: None, **options):
    """Trains twice, compiled and eagerly; asserts that everything is the same, and gives the compiled step."""
    (mine, optimizer), (its, other) = twins(make, model)
    compiled = compile(**options)(step)
    for i, x in enumerate(data or batches(count)):
        between(i, (optimizer, other))
        returned, expected = compiled(mine, optimizer, x), step(its, other, x)
        assert repr(returned) == repr(expected)
        assert same(mine, its)
    states = [optimizer.state_dict()["state"], other.state_dict()["state"]]
    assert repr(states[0]) == repr(states[1])
    for p, q in zip(mine.parameters(), its.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or torch.equal(p.grad, q.grad)
    return compiled


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_the_eager_one_with_an_optimizer_that_has_no_state_yet(name):
    check(OPTIMIZERS[name])


@pytest.mark.parametrize("name", ["adam, foreach", "adam, fused", "sgd, fused"])
def test_state_that_an_eager_step_made_is_continued(name):
    (mine, optimizer), (its, other) = twins(OPTIMIZERS[name])
    for model, own in ((mine, optimizer), (its, other)):
        train_step(model, own, torch.ones(4, 8))
    step = compile()(train_step)
    for x in batches(3):
        step(mine, optimizer, x)
        train_step(its, other, x)
    assert same(mine, its)


def test_capturable_without_fused_is_accepted_on_a_cpu():
    (mine, optimizer), (its, _) = twins(adam(foreach=True, capturable=True))
    other = torch.optim.Adam(its.parameters(), lr=0.01, foreach=True)  # eagerly torch wants a GPU for capturable
    step = compile()(train_step)
    for x in batches(3):
        step(mine, optimizer, x)
        train_step(its, other, x)
    assert same(mine, its)
    assert optimizer.param_groups[0]["capturable"] is True


@pytest.mark.parametrize("name", ["adam, foreach", "adam, for loop, amsgrad", "adam, fused", "sgd", "sgd, fused"])
def test_a_changed_learning_rate_is_used_and_compiles_nothing(name):
    def schedule(i, optimizers):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)

    transformed = []
    check(OPTIMIZERS[name], between=schedule, gm_transformation=lambda gm: transformed.append(gm) or gm)
    assert len(transformed) == 1


def test_a_scheduler_steps_between_calls():
    schedulers = {}

    def schedule(i, optimizers):
        for optimizer in optimizers:
            made = schedulers.setdefault(optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5))
            if i:
                made.step()

    check(adam(fused=True), between=schedule)


def test_another_hyperparameter_that_changes_is_used_too():
    def schedule(i, optimizers):
        for optimizer in optimizers:
            optimizer.param_groups[0]["weight_decay"] = 0.1 * i

    check(adam(fused=True), between=schedule)


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}])
def test_each_parameter_group_has_its_own_hyperparameters(options):
    def make(params):
        first, *rest = params
        groups = [{"params": [first], "lr": 0.5, "weight_decay": 0.3}, {"params": rest, "betas": (0.5, 0.6)}]
        return torch.optim.Adam(groups, lr=0.01, **options)

    check(make)


def test_a_second_model_is_compiled_for_itself():
    step = compile()(train_step)
    for seed in (1, 2):
        (mine, optimizer), (its, other) = twins(adam(fused=True))
        torch.manual_seed(seed)
        for x in batches(2):
            step(mine, optimizer, x)
            train_step(its, other, x)
        assert same(mine, its)


def test_two_models_take_turns():
    step = compile()(train_step)
    pairs = [twins(adam(fused=True)), twins(OPTIMIZERS["sgd"])]
    for x in batches(3):
        for (mine, optimizer), (its, other) in pairs:
            step(mine, optimizer, x)
            train_step(its, other, x)
    assert all(same(mine, its) for (mine, _), (its, _) in pairs)


def test_another_batch_shape_is_traced_again():
    check(adam(fused=True), data=[torch.ones(4, 8), torch.ones(7, 8), torch.ones(4, 8)])


def test_two_compilations_in_one_process_do_not_know_of_each_other():
    for _ in range(2):
        check(adam(fused=True))


def test_evaluation_mode_is_another_graph():
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))

    (mine, optimizer), (its, other) = twins(adam(fused=True), model)
    compiled = compile()(train_step)
    for training, x in zip((True, False, True), batches(3), strict=True):
        compiled(mine.train(training), optimizer, x)
        train_step(its.train(training), other, x)
        assert same(mine, its)


def loss_step(model, optimizer, x):
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), x)
    loss.backward()
    optimizer.step()
    return {"loss": loss.detach(), "count": 3, "name": "x", "nothing": None}


def test_what_the_step_returns_is_returned():
    check(adam(fused=True), loss_step)


def test_a_number_read_from_a_tensor_is_returned():
    def step(model, optimizer, x):
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    check(adam(fused=True), step)


def test_gradients_that_a_step_leaves_are_left_and_clearing_them_first_is_traced_once():
    transformed = []
    check(adam(fused=True), loss_step, gm_transformation=lambda gm: transformed.append(gm) or gm)
    assert len(transformed) == 1


def test_gradients_that_nobody_clears_add_up():
    def step(model, optimizer, x):
        model(x).sum().backward()
        optimizer.step()

    check(OPTIMIZERS["sgd"], step)


def test_gradients_cleared_by_zeros():
    def step(model, optimizer, x):
        model(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    check(OPTIMIZERS["sgd"], step)


def test_a_step_without_an_optimizer_returns_gradients():
    def step(model, x):
        model(x).sum().backward()
        return [p.grad for p in model.parameters()]

    (mine, _), (its, _) = twins(adam())
    for mine_grad, its_grad in zip(compile()(step)(mine, batches(1)[0]), step(its, batches(1)[0]), strict=True):
        assert torch.equal(mine_grad, its_grad)


def test_two_backward_passes_and_two_updates_in_one_step():
    def step(model, optimizer, x):
        for part in x.chunk(2):
            model(part).sum().backward()
        optimizer.step()
        model.zero_grad()
        train_step(model, optimizer, x)

    check(adam(fused=True), step)


def test_gradients_are_clipped():
    def step(model, optimizer, x):
        model(x).sum().backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()
        return norm

    check(adam(fused=True), step)


def test_frozen_tied_and_unused_parameters_and_buffers():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.unused = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
            self.two.weight = self.one.weight
            self.one.bias.requires_grad_(False)
            self.norm = nn.BatchNorm1d(8)

        def forward(self, x):
            return self.norm(self.two(self.one(x)))

    check(adam(fused=True), loss_step, model=Odd())


def test_weights_that_are_not_laid_out_in_rows():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).to(memory_format=torch.channels_last)
    check(adam(fused=True), model=model, data=[torch.ones(2, 3, 5, 5), torch.randn(2, 3, 5, 5)])


def test_random_numbers_are_new_ones_at_every_call():
    def step(model, optimizer, x):
        return F.dropout(model(x), 0.5).detach()

    (model, optimizer), _ = twins(adam())
    compiled = compile()(step)
    torch.manual_seed(0)
    found = [compiled(model, optimizer, torch.ones(4, 8)) for _ in range(2)]
    torch.manual_seed(0)
    assert torch.equal(found[0], step(model, optimizer, torch.ones(4, 8)))
    assert not torch.equal(found[0], found[1])


def test_keyword_arguments_and_trees_of_tensors():
    def step(model, optimizer, batch, *, scale):
        (model(batch["x"][0]) * scale).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    (mine, optimizer), (its, other) = twins(adam(fused=True))
    compiled = compile()(step)
    for scale in (1.0, 2.0):
        for x in batches(2):
            compiled(mine, optimizer, {"x": [x]}, scale=scale)
            step(its, other, {"x": [x]}, scale=scale)
    assert same(mine, its)


def test_parameters_and_state_stay_the_same_objects():
    (model, optimizer), _ = twins(adam(fused=True))
    params = list(model.parameters())
    step = compile()(train_step)
    step(model, optimizer, batches(1)[0])
    moments = [optimizer.state[p]["exp_avg"] for p in params]
    before = [m.clone() for m in moments]
    step(model, optimizer, batches(1)[0])
    assert all(p is q for p, q in zip(params, model.parameters(), strict=True))
    assert all(optimizer.state[p]["exp_avg"] is m for p, m in zip(params, moments, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(before, moments, strict=True))


def test_loaded_state_is_used():
    (mine, optimizer), (its, other) = twins(adam(fused=True))
    step = compile()(train_step)
    first, second, third = batches(3)
    step(mine, optimizer, first)
    train_step(its, other, first)
    saved = copy.deepcopy([mine.state_dict(), optimizer.state_dict()])
    step(mine, optimizer, second)
    mine.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    step(mine, optimizer, third)
    train_step(its, other, third)
    assert same(mine, its)


def test_eager_and_compiled_steps_take_turns():
    (mine, optimizer), (its, other) = twins(adam(fused=True))
    step = compile()(train_step)
    for i, x in enumerate(batches(4)):
        (step if i % 2 else train_step)(mine, optimizer, x)
        train_step(its, other, x)
    assert same(mine, its)


def test_the_transformation_is_applied_once_and_what_it_returns_is_called():
    seen = []

    def transformation(gm):
        seen.append(gm)
        return gm

    (model, optimizer), _ = twins(adam(fused=True))
    step = compile(gm_transformation=transformation)(train_step)
    found = []
    for x in batches(2):
        step(model, optimizer, x)
        found.append(step.__dict__[COMPILED_OBJECT_KEY].gm)
    assert len(seen) == 1
    assert found[0] is found[1] is seen[0]


def test_last_train_step_without_moved_work_changes_nothing():
    (mine, optimizer), (its, other) = twins(adam(fused=True))
    step = compile()(train_step)
    for x in batches(2):
        step(mine, optimizer, x, last_train_step=True)
        train_step(its, other, x)
    assert same(mine, its)


@pytest.mark.parametrize("form", ["a list", "one"])
def test_an_override_that_replaces_nothing(form):
    class Nothing(Override):
        def replacement(self, fqn, orig_submodule):
            names.append(fqn)
            return orig_submodule

        def transform(self, gm, flat_state):
            counts.append(len(flat_state))
            return gm

    names, counts = [], []
    check(adam(fused=True), module_override=[Nothing()] if form == "a list" else Nothing())
    assert names == ["mod", "mod.0", "mod.1", "mod.2", "mod.3"]
    assert counts == [16]  # four parameters, with a count and two moments each
