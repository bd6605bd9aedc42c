"""A step fills `.grad`, losses, outputs and buffers as the plain loop does."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import funpipe as fp
from funpipe.interop.pipelining.engine import Call
from funpipe.interop.pipelining.wiring import Argument
from tests.interop.pipelining.engine.pipelines import COUNT, ROWS, WIDTH, batch, eager, engine, gradients, layers


@pytest.mark.parametrize("backward", ["B", "IW"])
def test_a_step_is_the_plain_loop(backward):
    modules, (x, y) = layers(), batch()
    plain = copy.deepcopy(modules)
    made, losses = engine(modules, backward), ["old"]
    out = made.step(Call((x,), target=y), losses=losses)
    torch.testing.assert_close(losses, eager(plain, x, y))
    torch.testing.assert_close(gradients(modules), gradients(plain))
    torch.testing.assert_close(list(modules[0].buffers()), list(plain[0].buffers()))
    assert out.shape == (ROWS, 3) and not out.requires_grad


def test_compiled_steps_with_another_batch_and_mode():
    """Compiles: the whole step, and the evaluation of the same modules."""
    modules, (x, y) = [nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)], batch()
    plain = copy.deepcopy(modules)
    made = engine(modules, backend="step")
    for seed in (0, 1):
        x, y = batch(seed=seed)
        made.step(Call((x,), target=y))
        eager(plain, x, y)
    torch.testing.assert_close(gradients(modules), gradients(plain))
    torch.testing.assert_close(made.step(Call((x,)), training=False), nn.Sequential(*plain)(x).detach())


def test_gradients_accumulate_and_are_scaled_once():
    modules, (x, y) = layers(), batch()
    made = engine(modules)
    made.step(Call((x,), target=y))
    once = [g.clone() for g in gradients(modules)]
    modules[0][1].reset_running_stats()
    made.step(Call((x,), target=y))
    torch.testing.assert_close(gradients(modules), [2 * g for g in once])


def test_gradients_are_sums_where_they_are_not_scaled():
    modules, (x, y) = layers(), batch()
    plain = copy.deepcopy(modules)
    engine(modules, scale_grads=False).step(Call((x,), target=y))
    eager(plain, x, y, scale=1)
    torch.testing.assert_close(gradients(modules), gradients(plain))


def test_another_batch_size_is_planned_anew_and_a_known_one_is_not():
    modules = layers()
    made = engine(modules)
    for rows in (8, 12, 8, 12):
        x, y = batch(rows)
        assert made.step(Call((x,), target=y)).shape[0] == rows
    assert len(made.ready) == 2


def test_a_batch_that_does_not_divide_is_an_error():
    x, y = batch(6)
    with pytest.raises(fp.FunpipeError, match="differs from microbatch 0 in more than values"):
        engine(layers()).step(Call((x,), target=y))


def test_an_evaluation_leaves_gradients_alone_and_needs_no_target():
    modules, (x, _) = layers(), batch()
    out = engine(modules).step(Call((x,)), training=False)
    assert out.shape == (ROWS, 3) and all(g is None for g in gradients(modules))


def test_training_without_a_target_is_an_error():
    with pytest.raises(fp.FunpipeError, match="loss_fn and target required for last stage, and there is no target"):
        engine(layers()).step(Call((batch()[0],)))


def test_modes_of_modules_are_those_at_the_call():
    modules, (x, y) = [nn.Sequential(nn.Dropout(0.9), nn.Linear(WIDTH, 3))], batch()
    made = engine(modules)
    assert not torch.equal(made.step(Call((x,), target=y)), made.step(Call((x,), target=y)))
    modules[0].eval()
    torch.testing.assert_close(made.step(Call((x,), target=y)), modules[0](x).detach())


def test_a_replaced_parameter_is_seen():
    modules, (x, y) = [nn.Linear(WIDTH, 3)], batch()
    made = engine(modules)
    made.step(Call((x,), target=y))
    modules[0].weight = nn.Parameter(torch.zeros(3, WIDTH))
    assert torch.equal(made.step(Call((x,), target=y)), modules[0].bias.detach().expand(ROWS, 3))
    assert modules[0].weight.grad is not None


def test_a_frozen_parameter_gets_no_gradient():
    modules, (x, y) = layers(), batch()
    modules[1].requires_grad_(False)
    engine(modules).step(Call((x,), target=y))
    assert modules[1][0].weight.grad is None and modules[0][0].weight.grad is not None


def test_arguments_that_want_gradients_get_them():
    modules, (x, y) = layers(), batch()
    x.requires_grad_()
    engine(modules).step(Call((x,), target=y))
    wanted = x.detach().clone().requires_grad_()
    eager(modules, wanted, y, scale=1)
    torch.testing.assert_close(x.grad, wanted.grad)


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x, scale=1.0):
        return {"h": self.layer(x) * scale, "x": [x, "text"]}


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, 3)

    def forward(self, tree, scale=None):
        assert tree["x"][1] == "text"
        return {"logits": self.layer(tree["h"] + tree["x"][0])}


def nested_loss(out, target, weight=1.0):
    return weight * nn.functional.cross_entropy(out["logits"], target["class"])


def test_trees_between_stages_as_outputs_and_as_targets():
    modules, (x, y) = [Nested(), Reader()], batch()
    plain = copy.deepcopy(modules)
    made = engine(modules, loss_fn=nested_loss)
    call = Call((x,), {"scale": 2.0}, target={"class": y}, loss_kwargs={"weight": torch.tensor(0.5)})
    out = made.step(call)
    loss = nested_loss(plain[1](plain[0](x, 2.0)), {"class": y}, 0.5)
    loss.backward()
    assert list(out) == ["logits"]
    torch.testing.assert_close(gradients(modules), gradients(plain))


def test_microbatches_may_be_passed_as_they_are():
    modules, (x, y) = layers(), batch()
    plain = copy.deepcopy(modules)
    arguments = [(rows,) for rows in x.chunk(COUNT)]
    engine(modules).step(Call(arg_mbs=arguments, target_mbs=list(y.chunk(COUNT))))
    eager(plain, x, y)
    torch.testing.assert_close(gradients(modules), gradients(plain))


def test_too_few_microbatches_are_an_error():
    with pytest.raises(fp.FunpipeError, match="Expecting 4 arg_mbs but got 1"):
        engine(layers()).step(Call(arg_mbs=[(batch()[0],)]))


class Indexed(nn.Module):
    def forward(self, x, *, stage_idx, mb_idx):
        return x * 0 + 10 * stage_idx + mb_idx


def test_modules_are_told_stage_and_microbatch():
    x = batch(COUNT)[0]
    out = engine([Indexed(), Indexed()], loss_fn=None, with_indices=True).step(Call((x,)), training=False)
    assert out[:, 0].tolist() == [10, 11, 12, 13]


class Two(nn.Module):
    def forward(self, x):
        return x * 2, x + 1


class Add(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, 3)

    def forward(self, *values):
        return self.layer(sum(values))


def test_wires_go_from_any_stage_to_any_other_and_carry_arguments():
    modules, (x, y) = [Two(), nn.Linear(WIDTH, WIDTH), Add()], batch()
    wirings = [
        (Argument(None, 0),),
        (Argument(0, 1),),
        (Argument(1, 0), Argument(0, 0), Argument(None, 1), Argument(None, "z")),
    ]
    engine(modules, wirings=wirings).step(Call((x, x + 3), {"z": x - 1}, target=y))
    found = [g.clone() for g in gradients(modules)]
    for p in (p for m in modules for p in m.parameters()):
        p.grad = None
    twice, more = modules[0](x)
    nn.functional.cross_entropy(modules[2](modules[1](more), twice, x + 3, x - 1), y).backward()
    torch.testing.assert_close(found, gradients(modules))


def test_an_argument_that_was_traced_and_is_missing_is_an_error():
    with pytest.raises(fp.FunpipeError, match="stage 0 was traced with positional argument 1, and it is not"):
        engine([Add()], wirings=[(Argument(None, 0), Argument(None, 1))]).step(Call((batch()[0],)), training=False)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return checkpoint(lambda v: self.drop(torch.tanh(self.layer(v))), x, use_reentrant=False)


def test_a_checkpoint_reads_the_parameters_again():
    modules, (x, y) = [Checkpointed().eval()], batch()
    plain = copy.deepcopy(modules)
    engine(modules).step(Call((x,), target=y))
    eager(plain, x, y)
    torch.testing.assert_close(gradients(modules), gradients(plain))


def test_random_numbers_in_a_checkpoint_are_an_error():
    with pytest.raises(fp.FunpipeError, match="the backward draws random numbers: aten.bernoulli"):
        engine([Checkpointed()]).step(Call((batch()[0],), target=batch()[1]))


def test_the_step_may_update_the_parameters():
    modules, (x, y) = [nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)], batch()
    plain = copy.deepcopy(modules)
    made = engine(modules, optimizer=fp.optim.adamw(0.1))
    theirs = torch.optim.AdamW([p for m in plain for p in m.parameters()], lr=0.1)
    for _ in range(3):
        made.step(Call((x,), target=y))
        eager(plain, x, y)
        theirs.step()
        theirs.zero_grad()
    for ours, other in zip(modules, plain, strict=True):
        torch.testing.assert_close(list(ours.parameters()), list(other.parameters()))


def test_the_step_does_not_update_a_parameter_twice():
    shared = nn.Linear(WIDTH, WIDTH)
    with pytest.raises(fp.FunpipeError, match=r"optimizer= with the parameter 'weight' of stage 0.*torch.optim"):
        engine([shared, shared], optimizer=fp.optim.sgd(0.1)).step(Call(batch()[:1], target=batch()[1]))


def test_a_parameter_of_two_stages_of_a_process_gets_both_gradients():
    shared, head, (x, y) = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3), batch()
    plain = copy.deepcopy([shared, head])
    engine([shared, shared, head]).step(Call((x,), target=y))
    eager([plain[0], plain[0], plain[1]], x, y)
    torch.testing.assert_close(gradients([shared, head]), gradients(plain))


def test_a_loss_that_is_no_number_is_an_error():
    with pytest.raises(fp.FunpipeError, match=r"loss_fn returned a tensor of shape \(2, 3\): return one number"):
        engine(layers(), loss_fn=lambda out, target: out).step(Call((batch()[0],), target=batch()[1]))


def test_a_users_error_names_the_line():
    class Broken(nn.Module):
        def forward(self, x):
            return x @ torch.ones(5, 5)

    with pytest.raises(fp.FunpipeError, match=r"RuntimeError at .*test_engine.py"):
        engine([Broken()]).step(Call((batch()[0],)), training=False)


def test_an_error_of_a_module_is_also_of_the_type_that_torch_raises():
    with pytest.raises(RuntimeError, match=r"^\[Stage 1\] failed to run forward: its module raised RuntimeError at"):
        engine([nn.Linear(WIDTH, 5), nn.Linear(WIDTH, 3)]).step(Call((batch()[0],)), training=False)
