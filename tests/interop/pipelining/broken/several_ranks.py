"""Three ranks, one stage each unless a case says otherwise: skips, other batches, failures, shared weights.

Every rank runs a case, so an outcome is a list of the ranks'.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tests.interop.pipelining.broken.cases import Interface, case, cases_in, returns
from tests.interop.pipelining.broken.front_end import Layers, split
from tests.interop.pipelining.broken.stages import Skips
from tests.interop.pipelining.broken.training import CPU, agree, batch, linear, over, squares, train

RANKS = 3
SECONDS = 10
"""How long a rank waits for another."""


def run(root: str, options: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """Runs cases on this rank, one after the other; what each gave."""
    from tests.interop.pipelining.broken import several_ranks

    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=SECONDS))
    found = cases_in(several_ranks)
    return {name: found[name].outcome(Interface(root, options)) for name in names}


def trained(
    interface: Interface, model: nn.Module, name: str, microbatches: int, *batches: tuple[Tensor, Tensor]
) -> Any:
    """Trains this rank's traced stages on batches of possibly several sizes; the stages' modules."""
    pipe = split(interface, model, batches[0][0][: len(batches[0][0]) // microbatches])
    rank, count = dist.get_rank(), pipe.num_stages
    mine = [rank] if count == RANKS else [rank, count - 1 - rank]
    made = [pipe.build_stage(index, CPU) for index in mine]
    schedule = over(interface, made, name, microbatches, loss_fn=squares)
    for x, y in batches:
        schedule_step(schedule, mine, count, x, y)
    return [pipe.get_stage_module(index) for index in mine]


def schedule_step(schedule: Any, mine: Sequence[int], count: int, x: Tensor, y: Tensor) -> Any:
    """A step with the arguments that this rank's stages take."""
    return train(schedule, *((x,) if 0 in mine else ()), **({"target": y} if count - 1 in mine else {}))


def right(modules: Sequence[nn.Module], alone: nn.Module, *batches: tuple[Tensor, Tensor]) -> bool:
    """Whether the gradients of stages are those of the whole model, which is trained on the batches first."""
    for x, y in batches:
        squares(alone(x), y).backward()
    pairs = [(p.grad, alone.get_parameter(name).grad) for m in modules for name, p in m.named_parameters()]
    return bool(pairs) and all(a is not None and b is not None and torch.allclose(a, b, atol=1e-6) for a, b in pairs)


@case("3a.1b", returns(True))
def a_value_skips_a_stage(interface: Interface) -> bool:
    found = trained(interface, Skips(interface), "ScheduleInterleaved1F1B", 3, batch(6))
    return right(found, Skips(interface), batch(6))


class Fans(Skips):
    """What the first layer makes is read by both others."""

    def forward(self, x: Tensor) -> Tensor:
        """One value to two stages."""
        made = torch.tanh(self.a(x))
        self.mark()
        x = torch.tanh(self.b(made))
        self.mark()
        return self.c(x) + made


@case("3a.1c", returns(True))
def a_value_goes_to_two_stages(interface: Interface) -> bool:
    return right(trained(interface, Fans(interface), "Schedule1F1B", 3, batch(6)), Fans(interface), batch(6))


class Doubles(nn.Module):
    """Returns float64."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: Tensor) -> Tensor:
        """As float64."""
        return self.layer(x).double()


class Singles(nn.Module):
    """Takes any type of number."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: Tensor) -> Tensor:
        """As float32."""
        return self.layer(x.float())


@case("3a.4", returns(True))
def a_stage_that_declares_another_type_than_it_returns(interface: Interface) -> bool:
    rank = dist.get_rank()
    modules = [Doubles(), Singles(), Singles()]
    shape = torch.zeros(2, 4)
    stage = interface.PipelineStage(modules[rank], rank, RANKS, CPU, input_args=(shape,), output_args=(shape,))
    x, y = batch()
    schedule = over(interface, [stage], "ScheduleGPipe", 2, loss_fn=squares)
    schedule_step(schedule, [rank], RANKS, x, y)
    alone = nn.Sequential(Doubles(), Singles(), Singles())
    squares(alone(x), y).backward()
    return agree([modules[rank]], [alone[rank]])


class Turned(nn.Module):
    """Returns its result with the strides of its transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: Tensor) -> Tensor:
        """Not contiguous."""
        return self.layer(x).t().contiguous().t()


@case("3b.15", returns(True))
def an_output_that_is_not_contiguous_is_sent(interface: Interface) -> bool:
    rank = dist.get_rank()
    module = Turned()
    schedule = over(interface, [interface.PipelineStage(module, rank, RANKS, CPU)], "ScheduleGPipe", 2, loss_fn=squares)
    x, y = batch()
    schedule_step(schedule, [rank], RANKS, x, y)
    alone = nn.Sequential(Turned(), Turned(), Turned())
    squares(alone(x), y).backward()
    return agree([module], [alone[rank]])


@case("3b.4a", returns(True))
def a_later_batch_has_another_size(interface: Interface) -> bool:
    found = trained(interface, Layers(interface, [1, 2]), "ScheduleGPipe", 2, batch(4), batch(8))
    return right(found, Layers(interface, []), batch(4), batch(8))


@case("3b.4b", r"raises Pipe\w+: .*Pass a batch that divides evenly.*")
def a_batch_that_microbatches_do_not_divide(interface: Interface) -> bool:
    found = trained(interface, Layers(interface, [1, 2]), "ScheduleGPipe", 2, batch(5))
    return right(found, Layers(interface, []), batch(5))


@case("3b.10b", returns(True))
def a_v_of_traced_stages_on_three_ranks(interface: Interface) -> bool:
    found = trained(interface, Deep(interface), "ScheduleZBVZeroBubble", 6, batch(12))
    return right(found, Deep(interface), batch(12))


class Deep(nn.Module):
    """Six layers, one for each stage."""

    def __init__(self, interface: Interface) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2 * RANKS))
        self.mark = interface.pipe_split

    def forward(self, x: Tensor) -> Tensor:
        """Through all layers."""
        for number, layer in enumerate(self.layers):
            if number:
                self.mark()
            x = torch.tanh(layer(x))
        return x


class TiedEnds(Layers):
    """The first stage and the last one have one weight."""

    def __init__(self, interface: Interface, marks: Sequence[int] = (1, 2)) -> None:
        super().__init__(interface, marks)
        self.layers[3].weight = self.layers[0].weight


@case("3b.12b", returns(True))
def a_weight_of_two_ranks_gets_both_gradients(interface: Interface) -> bool:
    return right(trained(interface, TiedEnds(interface), "ScheduleGPipe", 2, batch()), TiedEnds(interface), batch())


class Broken(nn.Module):
    """Fails in its forward."""

    def forward(self, x: Tensor) -> Tensor:
        """Raises."""
        raise ArithmeticError("this layer cannot be computed")


@case("3b.6a", r"raises \w+: .*this layer cannot be computed.*")
def a_stage_that_raises_ends_every_rank(interface: Interface) -> Any:
    rank = dist.get_rank()
    module = Broken() if rank == 1 else linear()
    stage = interface.PipelineStage(module, rank, RANKS, CPU)
    schedule = over(interface, [stage], "ScheduleGPipe", 2, loss_fn=squares)
    return schedule_step(schedule, [rank], RANKS, *batch())


class Sums(nn.Module):
    """Adds a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        """Shifted."""
        return x + self.bias


class Looks(nn.Module):
    """Looks up rows of a table; that it does not have one is found only when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Row 9, which is not there, for inputs with a large sum."""
        return x + self.table[(x.sum(1) > 50).long() * 9]


@case("3b.6b", r"raises \w+: .*(out of (bounds|range)|rank 1.*first error).*")
def a_kernel_that_fails_ends_every_rank(interface: Interface) -> Any:
    rank = dist.get_rank()
    module, shape = (Sums(), Looks(), linear())[rank], torch.zeros(2, 4, requires_grad=True)
    stage = interface.PipelineStage(module, rank, RANKS, CPU, input_args=(shape,), output_args=(shape,))
    schedule = over(interface, [stage], "ScheduleGPipe", 2, loss_fn=squares)
    x, y = torch.zeros(4, 4), torch.zeros(4, 4)
    schedule_step(schedule, [rank], RANKS, x, y)
    return schedule_step(schedule, [rank], RANKS, x + 100, y)
