"""Stages: their place, what they refuse, and driving them by hand in one process."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from funpipe import FunpipeError
from funpipe.interop.pipelining._utils import PipeInfo
from funpipe.interop.pipelining.errors import PipeliningMetadataError
from funpipe.interop.pipelining.stage import (
    PipelineStage,
    _normalize_model_output_as_tuple,
    _PipelineStageBase,
    _RecvInfo,
    build_stage,
)
from funpipe.interop.pipelining.wiring import Argument
from tests.interop.pipelining.meshes import fake_ranks, line


def stages_of(modules):
    stages = [PipelineStage(module, i, len(modules), torch.device("cpu")) for i, module in enumerate(modules)]
    for stage in stages:
        stage.has_backward = True
    return stages


def hand_over(stages, microbatch, *args, **kwargs):
    """The forward of one microbatch through manual stages of this process."""
    output = stages[0].forward_one_chunk(microbatch, args, kwargs)
    for stage in stages[1:]:
        stage.set_local_fwd_input(output, microbatch)
        output = stage.forward_one_chunk(microbatch, ())
    return output


def go_back(stages, microbatch, loss, full_backward=True):
    for stage in reversed(stages):
        stage.backward_one_chunk(microbatch, loss=loss if stage.is_last else None, full_backward=full_backward)
        if not stage.is_first:
            stages[stage.stage_index - 1].set_local_bwd_input(stage.get_local_bwd_output(microbatch), microbatch)
    if not full_backward:
        for stage in stages:
            stage.backward_weight_one_chunk(microbatch)


def gradients(modules):
    return [p.grad for module in modules for p in module.parameters()]


def test_what_a_stage_knows_without_a_process_group():
    stage = PipelineStage(nn.Linear(2, 2), 1, 3, "cpu", input_args=torch.ones(1, 2))
    assert (stage.group_rank, stage.group_size, stage.group) == (0, 1, None)
    assert (stage.is_first, stage.is_last, stage.has_backward) == (False, False, False)
    assert stage.stage_index_to_group_rank == {0: 0, 1: 0, 2: 0}
    assert stage.wiring is None
    assert stage.device == torch.device("cpu")
    assert [meta.shape for meta in stage.inputs_meta] == [(1, 2)]


@pytest.mark.parametrize(("index", "count"), [(5, 2), (-1, 2), (0, 0)])
def test_an_index_out_of_range(index, count):
    with pytest.raises(ValueError, match=f"Stage index {index} is out of range of {count}"):
        PipelineStage(nn.Linear(2, 2), index, count, "cpu")


def test_more_processes_than_stages(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda group: 0)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: 4)
    with pytest.raises(RuntimeError, match="group size 4 cannot be larger than number of stages 2; start 2 processes"):
        PipelineStage(nn.Linear(2, 2), 0, 2, "cpu")
    assert PipelineStage(nn.Linear(2, 2), 0, 8, "cpu").stage_index_to_group_rank[5] == 1


@pytest.mark.parametrize(
    ("example", "text"),
    [({"a": 1}, "must be a tensor, tuple, or list of tensors, got dict"), ((1,), r"Stage arg\[0\] has type int")],
)
def test_examples_are_tensors(example, text):
    with pytest.raises(PipeliningMetadataError, match=text) as caught:
        PipelineStage(nn.Linear(2, 2), 0, 2, "cpu", input_args=example)
    assert isinstance(caught.value, (RuntimeError, FunpipeError))


def test_a_subclass_that_sets_the_least():
    class Mine(_PipelineStageBase):
        def __init__(self):
            self.submod, self.stage_index, self.num_stages = nn.Linear(2, 2), 0, 2
            self.group_size, self.group_rank, self.group = 1, 0, None

    stage = Mine()
    assert (stage.is_first, stage.is_last, stage.has_backward) == (True, False, False)
    assert stage.wiring is stage.dw_builder is None


def test_replicas_are_refused():
    with fake_ranks(2):
        replicated, sharded = DistributedDataParallel(nn.Linear(2, 2)), nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
        fully_shard(sharded[1], mesh=line("dp"))
        with pytest.raises(NotImplementedError, match=r"a stage's module is a Distri.*all_reduce\(p.grad\)"):
            PipelineStage(replicated, 0, 2, "cpu")
        with pytest.raises(NotImplementedError, match="submodule '1' of a stage is a FSDPLinear, whose hooks"):
            PipelineStage(sharded, 0, 2, "cpu")


@pytest.mark.parametrize(("output", "expected"), [([1, 2], (1, 2)), ((1,), (1,)), ({"a": 1}, ({"a": 1},))])
def test_outputs_as_a_tuple(output, expected):
    assert _normalize_model_output_as_tuple(output) == expected


def test_what_is_received_prints_without_values():
    info = _RecvInfo("x", 1, torch.ones(2), None)
    assert repr(info) == "_RecvInfo(input=x, source=1, shape=torch.Size([2]), meta=None)"
    assert "root_arg=True" in repr(_RecvInfo("x", None, None, None, is_root_arg=True))


@pytest.mark.parametrize("full_backward", [True, False])
@pytest.mark.parametrize("compiled", [False, True])
def test_microbatches_by_hand(full_backward, compiled):
    torch.manual_seed(0)
    modules = [nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)) for _ in range(3)]
    reference, batch = copy.deepcopy(nn.Sequential(*modules)), torch.randn(6, 4)
    stages = stages_of([torch.compile(m, backend="aot_eager") if compiled else m for m in modules])
    for i, rows in enumerate(batch.chunk(3)):
        go_back(stages, i, hand_over(stages, i, rows).square().sum(), full_backward)
    reference(batch).square().sum().backward()
    torch.testing.assert_close(gradients(modules), gradients([reference]))


class Nested(nn.Module):
    """A dict with a list in it, an integer tensor that needs no gradient, and what is no tensor."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, power, mask=None):
        y = self.linear(x) ** power
        return {"b": [y, "text"], "a": y.argmax(1), "c": None}


class Picks(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, index, y):
        return {"logits": (self.linear(y), index)}


@pytest.mark.parametrize("full_backward", [True, False])
def test_nested_outputs_and_arguments_that_are_no_tensors(full_backward):
    torch.manual_seed(0)
    modules, x = [Nested(), Picks()], torch.randn(3, 4, requires_grad=True)
    stages = stages_of(modules)
    output = hand_over(stages, 0, x, 2, mask="none")
    assert output["logits"][1].tolist() == modules[0](x, 2)["a"].tolist()
    go_back(stages, 0, output["logits"][0].sum(), full_backward)
    found = [*gradients(modules), x.grad]
    for module in modules:
        module.zero_grad()
    x.grad = None
    modules[1](None, modules[0](x, 2)["b"][0])["logits"][0].sum().backward()
    torch.testing.assert_close(found, [*gradients(modules), x.grad])


class Skips(nn.Module):
    """Stage 0 of three; its two outputs go to stages 1 and 2."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        y = self.linear(x)
        return y, y * 2


class Adds(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, *values):
        return self.linear(sum(values))


WIRING = (
    (Argument(None, 0),),
    (Argument(0, 0), Argument(0, 1)),
    (Argument(1, 0), Argument(0, 1), Argument(None, "bias"), Argument(0, 0)),
)


@pytest.mark.parametrize("full_backward", [True, False])
def test_skip_connections_of_traced_stages(full_backward):
    torch.manual_seed(0)
    modules, x, bias = [Skips(), Adds(), Adds()], torch.randn(2, 4), torch.randn(4, requires_grad=True)
    info = PipeInfo(None, 3, False, wiring=WIRING)
    stages = [build_stage(module, i, info, torch.device("cpu")) for i, module in enumerate(modules)]
    for stage in stages:
        stage.has_backward = True
    loss = traced_forward(stages, x, bias).sum()
    traced_backward(stages, loss, full_backward)
    found = [*gradients(modules), bias.grad]
    for module in modules:
        module.zero_grad()
    bias.grad = None
    a, b = modules[0](x)
    modules[2](modules[1](a, b), b, bias, a).sum().backward()
    torch.testing.assert_close(found, [*gradients(modules), bias.grad])


def traced_forward(stages, x, bias):
    from funpipe.interop.pipelining.stage.handing import outputs_for, take_inputs

    for stage in stages:
        output = stage.forward_one_chunk(0, (x,), {"bias": bias})
        for reader in stages[stage.stage_index + 1 :]:
            take_inputs(reader, 0, stage.stage_index, outputs_for(stage, 0, reader.stage_index))
    return output


def traced_backward(stages, loss, full_backward):
    from funpipe.interop.pipelining.stage.handing import gradients_for, take_gradients

    for stage in reversed(stages):
        stage.backward_one_chunk(0, loss=loss if stage.is_last else None, full_backward=full_backward)
        for source in stages[: stage.stage_index]:
            take_gradients(source, 0, stage.stage_index, gradients_for(stage, 0, source.stage_index))
        if not full_backward:
            stage.backward_weight_one_chunk(0)


def test_a_stage_takes_its_model_arguments_from_the_rank_it_is_on():
    stage = build_stage(Adds(), 2, PipeInfo(None, 3, False, wiring=WIRING), torch.device("cpu"))
    with pytest.raises(RuntimeError, match=r"\[Stage 2\] has not received microbatch 0 from stage 1; receive it"):
        stage.forward_one_chunk(0, ())
    first = build_stage(Skips(), 0, PipeInfo(None, 3, False, wiring=WIRING), torch.device("cpu"))
    with pytest.raises(RuntimeError, match="reads the model's argument 0, which this rank was not given; pass"):
        first.forward_one_chunk(0, ())


def test_a_loss_with_parameters_gets_its_gradients_in_split_backwards():
    stages, head = stages_of([nn.Linear(4, 4)]), nn.Linear(4, 1)
    go_back(stages, 0, head(hand_over(stages, 0, torch.ones(2, 4))).sum(), full_backward=False)
    assert head.weight.grad is not None


def test_evaluating_keeps_no_gradients():
    stages = stages_of([nn.Linear(4, 4), nn.Linear(4, 4)])
    for stage in stages:
        stage.has_backward = False
    assert not hand_over(stages, 0, torch.ones(2, 4)).is_leaf
    stages[1].backward_one_chunk(0, loss=torch.ones(()))
    stages[1].backward_weight_one_chunk(0)
    assert not stages[1].received[0][Argument(0, 0)].requires_grad
    with pytest.raises(AssertionError, match="can't get bwd output if has_backward is False"):
        stages[1].get_local_bwd_output(0)


def test_what_is_called_out_of_order():
    stages = stages_of([nn.Linear(4, 4), nn.Linear(4, 4)])
    with pytest.raises(AssertionError, match=r"\[Stage 0\] Attempted to run backward_weight_one_chunk for chunk 0"):
        stages[0].backward_weight_one_chunk(0)
    with pytest.raises(RuntimeError, match=r"\[Stage 0\] has no forward of microbatch 3"):
        stages[0].backward_one_chunk(3)
    output = hand_over(stages, 0, torch.ones(2, 4))
    with pytest.raises(RuntimeError, match=r"\[Stage 0\] has no gradients of microbatch 0 from stage 1; receive"):
        stages[0].backward_one_chunk(0)
    with pytest.raises(RuntimeError, match="last one and has no loss of microbatch 0; pass loss="):
        stages[1].backward_one_chunk(0)
    with pytest.raises(AssertionError, match="can't get bwd output if this stage is first"):
        stages[0].get_local_bwd_output(0)
    with pytest.raises(AssertionError, match="can't set bwd input if this stage is last"):
        stages[1].set_local_bwd_input((output,), 0)
    with pytest.raises(TypeError, match=r"\[Stage 0\] got gradients as a list; pass a tuple"):
        stages[0].set_local_bwd_input([output], 0)


def test_a_module_that_fails_names_its_stage_and_its_arguments():
    stage = PipelineStage(nn.Linear(4, 4), 0, 1, "cpu")
    with pytest.raises(
        RuntimeError, match=r"(?s)\[Stage 0\] failed to run forward.*Size\(\[2, 5\]\).*kwargs"
    ) as caught:
        stage.forward_one_chunk(0, (torch.ones(2, 5),))
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("full_backward", [True, False])
def test_weights_computed_by_the_user(full_backward):
    ran = []

    def builder():
        ran.append("built")
        return lambda: ran.append("run")

    stage = PipelineStage(nn.Linear(4, 4), 0, 1, "cpu", dw_builder=builder)
    stage.has_backward = True
    stage.backward_one_chunk(0, loss=stage.forward_one_chunk(0, (torch.ones(2, 4),)).sum(), full_backward=full_backward)
    assert ran == (["built", "run"] if full_backward else ["built"])
    if not full_backward:
        stage.backward_weight_one_chunk(0)
        assert ran == ["built", "run"]


def test_outputs_kept_lose_their_graph_with_their_backward():
    (stage,) = stages_of([nn.Linear(4, 4)])
    output = stage.forward_one_chunk(0, (torch.ones(2, 4),))
    assert stage.output_chunks[0] is output
    stage.backward_one_chunk(0, loss=stage.output_chunks[0].sum())
    assert not stage.output_chunks[0].requires_grad
    stage.forward_one_chunk(1, (torch.ones(2, 4),), save_forward_output=False)
    assert len(stage.output_chunks) == 1
    stage.clear_runtime_states()
    assert (stage.output_chunks, stage.fwd_cache) == ([], {})


def test_gradients_are_divided():
    (stage,) = stages_of([nn.Linear(4, 4)])
    stage.backward_one_chunk(0, loss=stage.forward_one_chunk(0, (torch.ones(2, 4),)).sum())
    stage.perform_reduce_grad(4)
    assert stage.submod.bias.grad.tolist() == [0.5] * 4
    stage.scale_grads(1)
    assert stage.submod.bias.grad.tolist() == [0.5] * 4


def test_messages_need_shapes():
    stage = PipelineStage(nn.Linear(4, 4), 1, 2, "cpu")
    stage.stage_index_to_group_rank = {0: 1, 1: 0}
    with pytest.raises(RuntimeError, match=r"\[Stage 1\] does not know the shapes of its inputs; pass input_args="):
        stage.get_fwd_recv_ops(0)
    stage.has_backward = True
    with pytest.raises(RuntimeError, match="has no gradients of microbatch 0 for stage 0; run backward"):
        stage.get_bwd_send_ops(0)


def test_what_was_not_computed_cannot_be_sent():
    stage = PipelineStage(nn.Linear(4, 4), 0, 2, "cpu")
    stage.stage_index_to_group_rank = {0: 0, 1: 1}
    with pytest.raises(RuntimeError, match=r"\[Stage 0\] has no outputs of microbatch 0 for stage 1; run forward_one"):
        stage.get_fwd_send_ops(0)


def validating(**declared):
    stage = PipelineStage(nn.Linear(4, 4), 0, 2, "cpu", **declared)
    stage.has_backward = True
    return stage


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ({"input_args": torch.ones(3, 4)}, r"Stage 0 forward input\[0\].*shape mismatch"),
        ({"output_args": torch.ones(2, 4).double()}, r"Stage 0 forward output\[0\].*dtype mismatch"),
        ({"output_args": torch.ones(4, 2).t()}, r"Stage 0 forward output\[0\].*stride mismatch"),
        ({"output_grads": torch.ones(1, 4)}, r"Stage 0 output gradient\[0\].*shape mismatch"),
        ({"input_args": (torch.ones(2, 4),) * 2}, "Stage 0 forward input.*expected 2 tensors, got 1"),
    ],
)
def test_tensors_are_checked_where_that_is_asked_for(declared, text, monkeypatch):
    def run(stage):
        stage.forward_one_chunk(0, (torch.ones(2, 4),))
        stage.set_local_bwd_input((torch.ones(2, 4),), 0)
        stage.backward_one_chunk(0)

    run(validating(**declared))
    stage = validating(**declared)
    stage._runtime_validate = True
    with pytest.raises(PipeliningMetadataError, match=text):
        run(stage)
    monkeypatch.setenv("TORCH_DISTRIBUTED_DEBUG", "DETAIL")
    with pytest.raises(PipeliningMetadataError, match=text):
        run(validating(**declared))


@pytest.mark.parametrize("full_backward", [True, False])
def test_a_step_leaves_no_cycles_that_hold_tensors(full_backward):
    gc.collect()
    gc.disable()
    try:
        stages = stages_of([nn.Sequential(nn.Linear(4, 4), Keeps()) for _ in range(2)])
        go_back(stages, 0, hand_over(stages, 0, torch.ones(2, 4)).sum(), full_backward)
        assert [keeps.seen() for keeps in (stage.submod[1] for stage in stages)] == [None, None]
    finally:
        gc.enable()


class Keeps(nn.Module):
    """Remembers its activation, weakly."""

    def forward(self, x):
        y = torch.tanh(x)
        self.seen = weakref.ref(y)
        return torch.sin(y)


def test_stages_of_one_process_send_nothing():
    first, last = stages_of([nn.Linear(4, 4), nn.Linear(4, 4)])
    first.forward_one_chunk(0, (torch.ones(2, 4),))
    assert first.get_fwd_send_ops(0) == last.get_fwd_recv_ops(0) == first.get_bwd_recv_ops(0) == []


def test_modules_of_stages_pickle():
    (stage,) = stages_of([nn.Linear(4, 4)])
    assert torch.equal(pickle.loads(pickle.dumps(stage.submod)).weight, stage.submod.weight)
