"""Rows of actions walked one by one: custom functions, one process and several, skips, errors."""

import copy

import pytest
import torch
from torch import nn

from funpipe.interop.pipelining import PipelineStage, build_stage, pipe_split, pipeline
from funpipe.interop.pipelining._utils import PipeInfo
from funpipe.interop.pipelining.schedules import (
    BACKWARD_WEIGHT,
    FORWARD,
    REDUCE_GRAD,
    _Action,
    _PipelineScheduleRuntime,
)
from funpipe.interop.pipelining.stage import _PipelineStageBase
from funpipe.interop.pipelining.walking import together, walk
from funpipe.interop.pipelining.walking.header import decode, encode
from funpipe.interop.pipelining.wiring import Argument
from funpipe.runtime import launch
from tests.interop.pipelining import walking_ranks


def rows(*texts):
    return {rank: [_Action.from_str(cell) for cell in text.split()] for rank, text in enumerate(texts)}


ONE_RANK = rows("0F0 1F0 0F1 1F1 1I0 0I0 1B1 0W0 1W0 0B1")


def layers(count=2):
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(count)]


def squares(output, target):
    return (output - target).square().mean()


def scheduled(stages, order=ONE_RANK, **options):
    schedule = _PipelineScheduleRuntime(stages, 2, loss_fn=squares, **options)
    schedule._prepare_schedule_with_comms(order)
    schedule.register_custom_function(_Action.from_str("0UNSHARD").computation_type, lambda action, context: None)
    return schedule


def manual(modules, **options):
    stages = [PipelineStage(module, i, len(modules), "cpu") for i, module in enumerate(modules)]
    return scheduled(stages, **options)


def gradients(modules):
    return [p.grad for module in modules for p in module.parameters()]


X, Y = torch.linspace(-1, 1, 16).view(4, 4), torch.zeros(4, 4)


def expected(modules, scale=1):
    modules = copy.deepcopy(modules)
    for x, y in zip(X.chunk(2), Y.chunk(2), strict=True):
        (squares(nn.Sequential(*modules)(x), y) / scale).backward()
    return gradients(modules)


def test_outputs_losses_and_gradients():
    modules, losses = layers(), []
    output = manual(modules, scale_grads=False).step(X, target=Y, losses=losses)
    torch.testing.assert_close(output, nn.Sequential(*modules)(X))
    assert not output.requires_grad and not losses[0].requires_grad
    torch.testing.assert_close(torch.stack(losses).mean(), squares(output, Y))
    torch.testing.assert_close(gradients(modules), expected(modules))


def test_gradients_of_two_steps_are_twice_those_of_one():
    modules = layers()
    schedule = manual(modules)
    once = expected(modules, scale=2)
    schedule.step(X, target=Y)
    torch.testing.assert_close(gradients(modules), once)
    kept = gradients(modules)
    schedule.step(X, target=Y)
    torch.testing.assert_close(gradients(modules), [2 * gradient for gradient in once])
    assert all(a is b for a, b in zip(gradients(modules), kept, strict=True))  # the same tensors, added to in place


def test_a_parameter_of_two_stages_is_scaled_once():
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    manual([layer, layer]).step(X, target=Y)
    other = copy.deepcopy(layer)
    other.zero_grad()
    squares(other(other(X)), Y).backward()
    torch.testing.assert_close(gradients([layer]), gradients([other]))


def test_stages_of_the_users_own_class():
    class Mine(_PipelineStageBase):
        def __init__(self, submod, stage_index):
            self.submod, self.stage_index, self.num_stages = submod, stage_index, 2
            self.group_size, self.group_rank, self.group = 1, 0, None

    modules = layers()
    scheduled([Mine(module, i) for i, module in enumerate(modules)]).step(X, target=Y)
    torch.testing.assert_close(gradients(modules), expected(modules, scale=2))


def test_custom_functions_stand_for_their_actions():
    modules, seen = layers(), []
    schedule = manual(modules)

    def forward(action, context):
        seen.append(str(action))
        stage = schedule._stages[action.stage_index]
        mb = action.microbatch_index
        output = stage.forward_one_chunk(mb, context.arg_mbs[mb], context.kwarg_mbs[mb])
        context.schedule_ref._maybe_compute_loss(stage, output, context.target_mbs, mb)

    def weight(action, context):
        seen.append(str(action))
        schedule._stages[action.stage_index].backward_weight_one_chunk(action.microbatch_index)

    schedule.register_custom_function(FORWARD, forward)
    schedule.register_custom_function(BACKWARD_WEIGHT, weight)
    schedule.step(X, target=Y)
    assert seen == ["0F0", "1F0", "0F1", "1F1", "0W0", "1W0"]
    torch.testing.assert_close(gradients(modules), expected(modules, scale=2))


def test_profiles_name_the_actions():
    schedule = manual(layers())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        schedule.step(X, target=Y)
    named = {event.name for event in profile.events()}
    assert {"PP:1F1", "PP:0I0", "PP:1W0", "PP:0B1"} <= named


def test_a_custom_reduction_scales_itself():
    modules = layers()
    schedule = manual(modules)
    reduce = lambda action, context: schedule._stages[action.stage_index].perform_reduce_grad(4)  # noqa: E731
    schedule.register_custom_function(REDUCE_GRAD, reduce)
    schedule.step(X, target=Y)
    torch.testing.assert_close(gradients(modules), expected(modules, scale=4))


def test_evaluating_goes_forward_alone():
    modules, losses = layers(), []
    schedule = manual(modules)
    schedule.register_custom_function(BACKWARD_WEIGHT, lambda action, context: pytest.fail("went back"))
    output = schedule.eval(X, target=Y, losses=losses)
    torch.testing.assert_close(output, nn.Sequential(*modules)(X))
    assert len(losses) == 2 and gradients(modules) == [None] * 4


class Indices(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, stage_idx, mb_idx):
        self.calls.append((stage_idx, mb_idx))
        return x * 1


def test_modules_are_told_their_stage_and_microbatch():
    modules = [Indices(), Indices()]
    manual(modules, pass_stage_and_microbatch_indices=True).eval(X)
    assert [module.calls for module in modules] == [[(0, 0), (0, 1)], [(1, 0), (1, 1)]]


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        y = self.linear(x)
        return y, torch.tanh(y)


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, *values):
        return self.linear(sum(values))


WIRING = (
    (Argument(None, 0),),
    (Argument(0, 1),),
    (Argument(0, 0), Argument(0, 1), Argument(1, 0), Argument(None, 0)),
)


def test_skip_connections_in_one_process():
    torch.manual_seed(0)
    modules, info = [Two(), Sum(), Sum()], PipeInfo(None, 3, False, WIRING)
    stages = [build_stage(module, i, info, torch.device("cpu")) for i, module in enumerate(modules)]
    order = rows("0F0 1F0 2F0 2I0 1B0 0B0 2W0 0F1 1F1 2F1 2B1 1B1 0B1")
    scheduled(stages, order, scale_grads=False).step(X, target=Y)
    other = copy.deepcopy(modules)
    for module in other:
        module.zero_grad()
    a, b = other[0](X)
    (2 * squares(other[2](a, b, other[1](b), X), Y)).backward()
    torch.testing.assert_close(gradients(modules), gradients(other))


class Whole(nn.Module):
    """Three stages: a model input and a value of the first are read by the last, which returns a dict."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, scale):
        first = self.a(x)
        pipe_split()
        second = torch.tanh(self.b(first))
        pipe_split()
        return {"y": self.c(second + first * scale), "first": (first,)}


def test_a_traced_model_with_skips_and_a_dict():
    torch.manual_seed(0)
    model, scale = Whole(), torch.full((4, 1), 2.0)
    pipe = pipeline(model, (X[:2], scale[:2]))
    stages = [pipe.build_stage(i, torch.device("cpu")) for i in range(3)]
    schedule = scheduled(stages, rows("0F0 1F0 2F0 2I0 1I0 0I0 2W0 1W0 0W0 0F1 1F1 2F1 2B1 1B1 0B1"))
    schedule._loss_fn = lambda output, target: squares(output["y"], target)
    output = schedule.step(X, scale, target=Y)
    expected_output = model(X, scale)
    torch.testing.assert_close(output, expected_output)
    found = gradients([model])
    model.zero_grad()
    squares(expected_output["y"], Y).backward()
    torch.testing.assert_close(found, gradients([model]))


def test_an_error_leaves_the_gradients_as_they_were():
    class Fails(nn.Linear):
        def forward(self, x):
            if x.sum() > 0:
                raise ArithmeticError("too large")
            return super().forward(x)

    modules = [nn.Linear(4, 4), Fails(4, 4)]
    for p in modules[0].parameters():
        p.grad = torch.ones_like(p)
    schedule = manual(modules)
    with torch.no_grad():
        modules[0].weight.copy_(torch.eye(4))
        modules[0].bias.zero_()
    order = rows("0F0 1F0 1B0 0B0 0F1 1F1 1B1 0B1")
    schedule._prepare_schedule_with_comms(order)
    with pytest.raises(RuntimeError, match=r"\[Stage 1\] failed to run forward: too large"):
        schedule.step(X, target=Y)
    assert [p.grad.unique().tolist() for p in modules[0].parameters()] == [[1], [1]]
    assert gradients(modules[1:]) == [None, None]


def test_a_group_that_has_no_messages_of_the_cpu(monkeypatch):
    schedule = manual(layers())
    schedule._stages[0].group_size = 2
    monkeypatch.setattr(torch.distributed, "get_backend_config", lambda group: "cuda:nccl")
    with pytest.raises(NotImplementedError, match="which cuda:nccl cannot send; start .*'cpu:gloo,cuda:nccl'"):
        walk(schedule, [(X,)], [{}], [Y])


def test_a_row_of_another_rank():
    schedule = manual(layers())
    schedule.pipeline_order_with_comms = rows("0F0 5F0")
    with pytest.raises(RuntimeError, match="5F0 is in the row of a rank that has stages 0, 1; move it"):
        walk(schedule, [(X,)], [{}], [Y])


def test_an_error_of_one_is_its_own_without_a_process_group():
    with pytest.raises(KeyError, match="mine"), together():
        raise KeyError("mine")


def test_headers_of_any_length():
    tensors = {i: torch.ones(i + 1, 2).requires_grad_(i % 2 == 0) for i in range(40)} | {50: None, 51: torch.tensor(3)}
    first, rest = encode(tensors)
    assert rest is not None
    found = decode(first, rest)
    assert found.keys() == tensors.keys() and found[50] is None and found[51].dtype == torch.int64
    assert all(found[i].shape == (i + 1, 2) and found[i].requires_grad == (i % 2 == 0) for i in range(40))


def test_headers_know_every_dtype():
    dtypes = [torch.float8_e5m2, torch.bfloat16, torch.bool, torch.uint16, torch.complex128]
    found = decode(*encode({i: torch.zeros(2, dtype=dtype) for i, dtype in enumerate(dtypes)}))
    assert [tensor.dtype for tensor in found.values()] == dtypes


def test_tensors_that_cannot_be_sent():
    class Special(torch.Tensor):
        pass

    with pytest.raises(TypeError, match="a Special cannot be sent between stages; return plain tensors"):
        encode({0: torch.ones(2).as_subclass(Special)})


def test_four_ranks():
    """Every case in one launch, since starting processes takes most of the time."""
    results = launch(walking_ranks.every_case, 4, timeout=120)
    for case, checks in walking_ranks.CHECKS.items():
        checks([result[case] for result in results])
