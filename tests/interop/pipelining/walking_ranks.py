"""What four ranks run for test_walking."""

import copy
import datetime
import gc
import os
import weakref

import torch
import torch.distributed as dist
from torch import nn

from funpipe.interop.pipelining import PipelineStage, build_stage
from funpipe.interop.pipelining._utils import PipeInfo
from funpipe.interop.pipelining.schedules import (
    OVERLAP_F_B,
    REDUCE_GRAD,
    UNSHARD,
    _Action,
    _PipelineScheduleRuntime,
    get_schedule_class,
)
from funpipe.interop.pipelining.walking import together
from funpipe.interop.pipelining.wiring import Argument

RANKS = 4


def squares(output, target):
    return (output - target).square().mean()


def layers(count):
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(count)]


def batch(rows):
    torch.manual_seed(1)
    return torch.randn(rows, 4), torch.randn(rows, 4)


def stages_of(order):
    """The stages of this rank."""
    rank = dist.get_rank()
    return sorted({part.stage_index for action in order[rank] if action for part in action.sub_actions or (action,)})


def order_of(name, stages_per_rank, microbatches):
    """The rows of a schedule class, from a schedule of stages that never run."""
    count = stages_per_rank * RANKS
    rank = dist.get_rank()
    v_shaped = name in ("ZBVZeroBubble", "DualPipeV")
    own = [rank, count - 1 - rank] if v_shaped else list(range(rank, count, RANKS))
    made = [PipelineStage(nn.Identity(), index, count, "cpu") for index in own]
    cls = get_schedule_class(name)
    order = cls(made if stages_per_rank > 1 else made[0], microbatches).pipeline_order
    return {rank: [action for action in row if action is None or action.is_compute_op] for rank, row in order.items()}


def runtime(stages, order, microbatches, **options):
    schedule = _PipelineScheduleRuntime(stages, microbatches, loss_fn=squares, **options)
    schedule._prepare_schedule_with_comms(order)
    schedule.register_custom_function(UNSHARD, lambda action, context: None)
    return schedule


def step(schedule, x, y):
    has = [stage.stage_index for stage in schedule._stages]
    last = schedule._stages[0].num_stages - 1
    losses = []
    output = schedule.step(*([x] if 0 in has else []), target=y if last in has else None, losses=losses)
    return output, losses


def difference(modules, reference):
    """The largest one between gradients."""
    found, expected = ([p.grad for module in some for p in module.parameters()] for some in (modules, reference))
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))


def manual(name, stages_per_rank, rows=16, microbatches=8):
    """The largest difference of a gradient of this rank after two steps; what the last rank returned, too."""
    order = order_of(name, stages_per_rank, microbatches)
    modules = layers(stages_per_rank * RANKS)
    reference = nn.Sequential(*copy.deepcopy(modules))
    own = stages_of(order)
    stages = [PipelineStage(modules[i], i, len(modules), "cpu") for i in own]
    schedule, (x, y) = runtime(stages, order, microbatches), batch(rows)
    for _ in range(2):
        output, losses = step(schedule, x, y)
        for part in zip(x.tensor_split(microbatches), y.tensor_split(microbatches), strict=True):
            (squares(reference(part[0]), part[1]) / microbatches).backward()
    if output is not None:
        torch.testing.assert_close(output, reference(x))
        assert len(losses) == microbatches
    return difference([modules[i] for i in own], [reference[i] for i in own])


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, *values):
        y = self.linear(sum(values))
        return y, torch.tanh(y), torch.arange(3)


class Last(Two):
    def forward(self, *values):
        return super().forward(*values)[0]


def skipping_wiring(count):
    """Each stage reads both outputs of the one before and, from the third on, one of stage 0 and of two before."""
    found = [(Argument(None, 0),)]
    for stage in range(1, count):
        skips = (Argument(0, 1), Argument(stage - 2, 0)) if stage > 2 else ()
        found.append((Argument(stage - 1, 0), Argument(stage - 1, 1), *skips))
    return tuple(found)


def whole_model(modules, wiring, x):
    made = {(None, 0): x}
    for stage, module in enumerate(modules):
        output = module(*(made[a.stage, a.index] for a in wiring[stage]))
        made |= {(stage, k): value for k, value in enumerate(output if isinstance(output, tuple) else (output,))}
    return made[len(modules) - 1, 0]


def skipping(name, stages_per_rank, microbatches=8):
    """As `manual`, with traced stages whose values skip stages and ranks."""
    order = order_of(name, stages_per_rank, microbatches)
    count = stages_per_rank * RANKS
    torch.manual_seed(0)
    modules = [*(Two() for _ in range(count - 1)), Last()]
    reference, wiring, (x, y) = copy.deepcopy(modules), skipping_wiring(count), batch(16)
    own = stages_of(order)
    info = PipeInfo(None, count, False, wiring)
    step(runtime([build_stage(modules[i], i, info, torch.device("cpu")) for i in own], order, microbatches), x, y)
    squares(whole_model(reference, wiring, x), y).backward()
    return difference([modules[i] for i in own], [reference[i] for i in own])


def replicated():
    """One parameter in the first and the last stage, on two ranks: both have the sum."""
    order = order_of("1F1B", 1, 4)
    modules, (x, y) = layers(RANKS), batch(8)
    reference = copy.deepcopy(modules)
    modules[3][0].weight.data.copy_(modules[0][0].weight.data)
    reference[3][0].weight = reference[0][0].weight
    info = PipeInfo(None, RANKS, False, tuple((Argument(i - 1 if i else None, 0),) for i in range(RANKS)))
    info.replicated = (((0, "0.weight"), (3, "0.weight")),)
    rank = dist.get_rank()
    step(runtime([build_stage(modules[rank], rank, info, torch.device("cpu"))], order, 4), x, y)
    squares(nn.Sequential(*reference)(x), y).backward()
    return difference([modules[rank]], [reference[rank]])


def overlapped():
    """A function of the user's own for overlapped actions, which waits for messages and hands over itself."""
    order = order_of("DualPipeV", 2, 8)
    modules, (x, y) = layers(2 * RANKS), batch(16)
    reference, own = nn.Sequential(*copy.deepcopy(modules)), stages_of(order)
    schedule = runtime([PipelineStage(modules[i], i, len(modules), "cpu") for i in own], order, 8)
    stages, seen = {stage.stage_index: stage for stage in schedule._stages}, []

    def overlap(action, context):
        seen.append(action)
        forward, backward = action.sub_actions
        stage, mb = stages[forward.stage_index], forward.microbatch_index
        if not stage.is_first and stage.stage_index - 1 not in stages:
            for work in schedule.fwd_recv_ops.pop((stage.stage_index, mb)):
                work.wait()
        output = stage.forward_one_chunk(mb, context.arg_mbs[mb], context.kwarg_mbs[mb])
        schedule._maybe_compute_loss(stage, output, context.target_mbs, mb)
        if stage.stage_index + 1 in stages:
            stages[stage.stage_index + 1].set_local_fwd_input(output, mb)
        stage, mb = stages[backward.stage_index], backward.microbatch_index
        if not stage.is_last and stage.stage_index + 1 not in stages:
            for work in schedule.bwd_recv_ops.pop((stage.stage_index, mb)):
                work.wait()
        stage.backward_one_chunk(mb, loss=schedule._maybe_get_loss(stage, mb))
        if stage.stage_index - 1 in stages:
            stages[stage.stage_index - 1].set_local_bwd_input(stage.get_local_bwd_output(mb), mb)

    schedule.register_custom_function(OVERLAP_F_B, overlap)
    step(schedule, x, y)
    squares(reference(x), y).backward()
    return len(seen), difference([modules[i] for i in own], [reference[i] for i in own])


def registered_on_one_rank():
    """The others walk, too."""
    order, modules, (x, y) = order_of("1F1B", 1, 4), layers(RANKS), batch(8)
    reference, rank, seen = nn.Sequential(*copy.deepcopy(modules)), dist.get_rank(), []
    stage = PipelineStage(modules[rank], rank, RANKS, "cpu")
    schedule = _PipelineScheduleRuntime([stage], 4, loss_fn=squares)
    schedule._prepare_schedule_with_comms(order)
    if rank == 1:
        schedule.register_custom_function(REDUCE_GRAD, lambda action, context: seen.append(stage.scale_grads(4)))
    step(schedule, x, y)
    squares(reference(x), y).backward()
    return len(seen), difference([modules[rank]], [reference[rank]])


def splitting():
    """What each rank raises when the batch of one does not split."""
    order, rank = order_of("1F1B", 1, 4), dist.get_rank()
    schedule = runtime([PipelineStage(nn.Linear(4, 4), rank, RANKS, "cpu")], order, 4)
    try:
        step(schedule, *batch(3 if rank == 0 else 8))
    except (ValueError, RuntimeError) as error:
        return str(error)
    return "nothing was raised"


def wrong_row():
    """What each rank raises when the row of one names a stage of another."""
    order, rank = order_of("1F1B", 1, 4), dist.get_rank()
    schedule = runtime([PipelineStage(nn.Linear(4, 4), rank, RANKS, "cpu")], order, 4)
    if rank == 3:
        schedule.pipeline_order_with_comms[3][0] = _Action.from_str("0F0")
    try:
        step(schedule, *batch(8))
    except RuntimeError as error:
        return str(error)
    return "nothing was raised"


class Keeps(nn.Module):
    """Remembers its inputs and activations, weakly."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(4, 4), []

    def forward(self, x):
        y = self.linear(x)
        self.seen += [weakref.ref(x), weakref.ref(y)]
        return torch.tanh(y)


def nothing_kept():
    """How many inputs, activations and arguments are alive after a step without the garbage collector."""
    order, rank, module, (x, y) = order_of("1F1B", 1, 4), dist.get_rank(), Keeps(), batch(8)
    schedule = runtime([PipelineStage(module, rank, RANKS, "cpu")], order, 4)
    given = [weakref.ref(x), weakref.ref(y)]
    gc.collect()
    gc.disable()
    try:
        step(schedule, x, y)
        del x, y
        return sum(tensor() is not None for tensor in (*given, *module.seen))
    finally:
        gc.enable()


class Fails(nn.Linear):
    """Fails when its input is large, forward or backward."""

    def __init__(self, backward):
        super().__init__(4, 4)
        self.backward, self.strict = backward, True

    def forward(self, x):
        if not self.strict or x.abs().max() < 50:
            return super().forward(x)
        if not self.backward:
            raise ArithmeticError("too large")
        y = super().forward(x)
        y.register_hook(self.fail)
        return y

    def fail(self, gradient):
        raise ArithmeticError("too large a gradient")


def failing(failing_rank, backward):
    """What each rank raises when one fails in its sixth microbatch, and that a next step is right."""
    order = order_of("1F1B", 1, 8)
    torch.manual_seed(0)
    modules = [Fails(backward) if i == failing_rank else nn.Linear(4, 4) for i in range(RANKS)]
    reference, rank = nn.Sequential(*copy.deepcopy(modules)), dist.get_rank()
    schedule, (x, y) = runtime([PipelineStage(modules[rank], rank, RANKS, "cpu")], order, 8), batch(16)
    large = x.clone()
    large[10] = 1e6
    try:
        step(schedule, large, y)
        text = "nothing was raised"
    except RuntimeError as error:
        text = str(error)
    untouched = all(p.grad is None for p in modules[rank].parameters())
    step(schedule, x, y)
    squares(reference(x), y).backward()
    return text, untouched, difference([modules[rank]], [reference[rank]])


def together_or_not():
    """What each rank raises when one of them does."""
    try:
        with together():
            if dist.get_rank() == 2:
                raise KeyError("no such row")
    except (KeyError, RuntimeError) as error:
        return type(error).__name__, str(error)
    return "nothing", ""


def by_hand():
    """Stages driven without a schedule, with messages of declared shapes; of three outputs one is read."""
    torch.manual_seed(0)
    rank, modules, (x, y) = dist.get_rank(), [First(i == RANKS - 1) for i in range(RANKS)], batch(4)
    reference = copy.deepcopy(modules)
    examples = (x[:2],) if rank == 0 else (x[:2], x[:2], torch.arange(3))
    stage = PipelineStage(modules[rank], rank, RANKS, "cpu", input_args=examples)
    stage.has_backward = True
    losses = []
    for mb, part in enumerate(x.chunk(2)):
        run(stage.get_fwd_recv_ops(mb))
        output = stage.forward_one_chunk(mb, (part,) if stage.is_first else ())
        losses.append(squares(output, y.chunk(2)[mb]) if stage.is_last else None)
        run(stage.get_fwd_send_ops(mb))
    for mb, loss in enumerate(losses):
        run(stage.get_bwd_recv_ops(mb))
        stage.backward_one_chunk(mb, loss=loss, full_backward=mb == 0)
        run(stage.get_bwd_send_ops(mb))
    stage.backward_weight_one_chunk(1)
    stage.scale_grads(2)
    for module in reference:
        x = module(x)[0] if module is not reference[-1] else module(x)
    squares(x, y).backward()
    return difference([modules[rank]], [reference[rank]])


class First(nn.Module):
    """Reads the first of its inputs; the second one's gradient is None."""

    def __init__(self, only=False):
        super().__init__()
        self.linear, self.only = nn.Linear(4, 4), only

    def forward(self, x, *unused):
        y = self.linear(x)
        return y if self.only else (y, torch.tanh(y), torch.arange(3))


def run(operations):
    for work in dist.batch_isend_irecv(operations) if operations else ():
        work.wait()


CASES = {
    "gpipe": lambda: manual("GPipe", 1),
    "uneven": lambda: manual("1F1B", 1, rows=19),
    "interleaved": lambda: manual("Interleaved1F1B", 2),
    "zero bubble": lambda: manual("InterleavedZeroBubble", 2),
    "v": lambda: manual("ZBVZeroBubble", 2),
    "dual": lambda: manual("DualPipeV", 2),
    "skips": lambda: skipping("InterleavedZeroBubble", 2),
    "skips in a v": lambda: skipping("ZBVZeroBubble", 2),
    "replicated": replicated,
    "overlapped": overlapped,
    "one rank's function": registered_on_one_rank,
    "splitting": splitting,
    "wrong row": wrong_row,
    "nothing kept": nothing_kept,
    "fails at first": lambda: failing(0, False),
    "fails": lambda: failing(2, False),
    "fails going back": lambda: failing(2, True),
    "together": together_or_not,
    "by hand": by_hand,
}


def every_case():
    """The results of all cases on this rank."""
    timeout = datetime.timedelta(seconds=60)
    dist.init_process_group("gloo", timeout=timeout)
    assert int(os.environ["RANK"]) == dist.get_rank()
    return {name: case() for name, case in CASES.items()}


def agree(results):
    assert max(results) < 1e-6


def overlaps(results):
    assert all(count > 0 and error < 1e-6 for count, error in results)


def one_ran(results):
    assert [count for count, _ in results] == [0, 1, 0, 0]
    assert all(error < 1e-6 for _, error in results)


def none_splits(results):
    assert "rank 0 failed in this step" not in results[0] and "4" in results[0]
    assert all(f"rank 0 failed in this step: PipeValueError: {results[0]}" == text for text in results[1:]), results


def all_refuse(results):
    assert all("0F0 is in the row of a rank that has stages 3; move it" in text for text in results)


def fails_at(rank, text):
    def check(results):
        own = f"[Stage {rank}] failed to run forward: {text}" if "gradient" not in text else text
        assert all(own in result[0] for result in results), results
        assert [result[0].startswith(f"rank {rank} failed in this step") for result in results] == [
            i != rank for i in range(RANKS)
        ]
        assert all(result[1] and result[2] < 1e-6 for result in results), results

    return check


def all_raise(results):
    assert results[2] == ("KeyError", "'no such row'")
    assert {results[i] for i in (0, 1, 3)} == {
        ("PipeRuntimeError", "rank 2 failed in this step: KeyError: 'no such row'")
    }


CHECKS = dict.fromkeys(CASES, agree) | {
    "overlapped": overlaps,
    "one rank's function": one_ran,
    "splitting": none_splits,
    "wrong row": all_refuse,
    "fails at first": fails_at(0, "too large"),
    "fails": fails_at(2, "too large"),
    "fails going back": fails_at(2, "too large a gradient"),
    "together": all_raise,
}
