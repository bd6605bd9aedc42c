"""Training in one process: what stages take and return, how gradients are scaled, what evaluation needs."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from tests.interop.pipelining.broken.cases import Interface, case, returns
from tests.interop.pipelining.broken.front_end import Layers, Tied, split, structure
from tests.interop.pipelining.broken.training import (
    agree,
    batch,
    gradients,
    linear,
    manual,
    reference,
    squares,
    traced,
    train,
)


class Skips(nn.Module):
    """Three layers; the last also reads what the first made, and the middle one reads it or the input."""

    def __init__(self, interface: Interface) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))
        self.mark = interface.pipe_split

    def forward(self, x: Tensor) -> Tensor:
        """With a value that skips the middle stage."""
        skipped = torch.tanh(self.a(x))
        x = skipped * 2
        self.mark()
        x = torch.tanh(self.b(x))
        self.mark()
        return self.c(x) + skipped


@case("3a.1a", returns(True))
def several_stages_of_a_rank_skip(interface: Interface) -> bool:
    model, alone = Skips(interface), Skips(interface)
    x, y = batch()
    schedule = traced(interface, split(interface, model, x[:2]), "ScheduleInterleaved1F1B", loss_fn=squares)
    train(schedule, x, target=y)
    squares(alone(x), y).backward()
    return agree([model], [alone])


def compiled(interface: Interface, name: str) -> bool:
    """Trains two compiled stages with a schedule that splits backwards."""
    modules = [linear(0), linear(1)]
    x, y = batch(8)
    wrapped = [cast(nn.Module, torch.compile(module, backend="eager")) for module in modules]
    train(manual(interface, wrapped, name, 4, loss_fn=squares), x, target=y)
    return agree(modules, reference([linear(0), linear(1)], x, y))


@case("3a.2a", returns(True))
def interleaved_zero_bubble_of_compiled_modules(interface: Interface) -> bool:
    return compiled(interface, "ScheduleInterleavedZeroBubble")


@case("3a.2b", returns(True))
def zbv_of_compiled_modules(interface: Interface) -> bool:
    return compiled(interface, "ScheduleZBVZeroBubble")


@case("3a.2c", returns(True))
def dualpipev_of_compiled_modules(interface: Interface) -> bool:
    return compiled(interface, "ScheduleDualPipeV")


@case("3b.10", returns(True))
def a_v_of_traced_stages(interface: Interface) -> bool:
    model, alone = Layers(interface, [2]), Layers(interface, [])
    x, y = batch(8)
    schedule = traced(interface, split(interface, model, x[:2]), "ScheduleZBVZeroBubble", 4, loss_fn=squares)
    train(schedule, x, target=y)
    squares(alone(x), y).backward()
    return agree([model], [alone])


@case("3b.1", returns(2))
def batch_norm_counts_microbatches(interface: Interface) -> int:
    norm = nn.BatchNorm1d(4)
    x, y = batch()
    train(manual(interface, [nn.Sequential(nn.Linear(4, 4), norm)], "ScheduleGPipe", loss_fn=squares), x, target=y)
    return int(norm.state_dict()["num_batches_tracked"])


class Tree(nn.Module):
    """Returns a dict with a tuple in it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: Tensor) -> dict[str, Any]:
        """The output and its halves."""
        y = self.layer(x)
        return {"y": y, "parts": (y[:, :2], y[:, 2:])}


@case("3b.2a", returns("dict(parts=tuple(Tensor, Tensor), y=Tensor)"))
def the_last_stage_returns_a_tree(interface: Interface) -> str:
    x, y = batch()
    schedule = manual(interface, [Tree()], "ScheduleGPipe", loss_fn=lambda out, y: squares(out["y"], y))
    return structure(train(schedule, x, target=y))


@case("3a.3e", returns("dict(parts=tuple(Tensor, Tensor), y=Tensor)"))
def a_traced_model_returns_a_tree(interface: Interface) -> str:
    x, y = batch()
    pipe = split(interface, Tree(), x[:2])
    return structure(
        train(traced(interface, pipe, "ScheduleGPipe", loss_fn=lambda out, y: squares(out["y"], y)), x, target=y)
    )


class Pair(nn.Module):
    """Takes what `Halves` returns."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, halves: dict[str, Tensor]) -> Tensor:
        """Through the layer."""
        return self.layer(torch.cat([halves["left"], halves["right"]], 1))


class Halves(nn.Module):
    """Returns a dict of tensors to the next stage."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Two halves."""
        y = self.layer(x)
        return {"left": y[:, :2], "right": y[:, 2:]}


@case("3a.8", returns(True))
def a_stage_returns_a_dict_to_the_next(interface: Interface) -> bool:
    first, last = Halves(), Pair()
    x, y = batch()
    train(manual(interface, [first, last], "ScheduleInterleaved1F1B", loss_fn=squares), x, target=y)
    return agree([first.layer, last.layer], reference([linear(), linear()], x, y))


class Scaled(nn.Module):
    """Takes a number beside a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: Tensor, scale: float) -> Tensor:
        """Scaled."""
        return self.layer(x * scale)


@case("3b.2b", returns(True))
def a_number_is_a_positional_argument(interface: Interface) -> bool:
    module = Scaled()
    x, y = batch()
    train(manual(interface, [module], "ScheduleGPipe", loss_fn=squares), x, 2.0, target=y)
    return agree([module.layer], reference([linear()], x * 2, y))


class OwnLoss(nn.Module):
    """Returns one number."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: Tensor) -> Tensor:
        """The mean of squares."""
        return self.layer(x).square().mean()


@case("3b.13", returns([2]))
def an_output_without_dimensions_is_one_of_each_microbatch(interface: Interface) -> list[int]:
    x, y = batch()
    schedule = manual(interface, [OwnLoss()], "ScheduleGPipe", loss_fn=lambda out, y: out)
    return list(train(schedule, x, target=y).shape)


class Decides(nn.Module):
    """Branches on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: Tensor) -> Tensor:
        """Through the layer where anything is not zero."""
        return self.layer(x) if x.abs().sum() > 0 else x


@case("3b.14", returns(True))
def a_traced_model_branches_on_data(interface: Interface) -> bool:
    model, alone = Decides(), Decides()
    x, y = batch()
    train(traced(interface, split(interface, model, x[:2]), "ScheduleGPipe", loss_fn=squares), x, target=y)
    squares(alone(x), y).backward()
    return agree([model], [alone])


@case("3b.3", returns(2.0))
def gradients_of_two_steps_are_scaled_once(interface: Interface) -> float:
    module = nn.Linear(4, 4)
    x, y = batch()
    schedule = manual(interface, [module], "ScheduleGPipe", loss_fn=squares)
    sums = []
    for _ in range(2):
        train(schedule, x, target=y)
        sums.append(sum(float(gradient.sum()) for gradient in gradients([module]) if gradient is not None))
    return round(sums[1] / sums[0], 4)


@case("3b.5a", returns(True))
def the_target_is_a_tuple(interface: Interface) -> bool:
    module = linear()
    x, y = batch()
    schedule = manual(
        interface, [module], "ScheduleGPipe", loss_fn=lambda out, pair: squares(out, pair[0]) + squares(out, pair[1])
    )
    train(schedule, x, target=(y, y))
    alone = linear()
    (2 * squares(alone(x), y)).backward()
    return agree([module], [alone])


@case("3b.5b", returns([4, 4]))
def evaluation_needs_no_target(interface: Interface) -> list[int]:
    schedule = manual(interface, [linear()], "ScheduleGPipe", loss_fn=squares)
    return list(schedule.eval(batch()[0]).shape)


@case("3b.11", returns([False, False]))
def losses_and_outputs_hold_no_graph(interface: Interface) -> list[bool]:
    x, y = batch()
    losses: list[Tensor] = []
    out = train(manual(interface, [linear()], "ScheduleGPipe", loss_fn=squares), x, target=y, losses=losses)
    return [losses[0].requires_grad, out.requires_grad]


@case("3b.12a", returns(True))
def a_weight_of_two_stages_gets_both_gradients(interface: Interface) -> bool:
    model, alone = Tied(interface), Tied(interface)
    x, y = batch()
    schedule = traced(interface, split(interface, model, x[:2]), "ScheduleInterleaved1F1B", loss_fn=squares)
    train(schedule, x, target=y)
    squares(alone(x), y).backward()
    return agree([model], [alone])


@case("3a.5", returns([True, True]))
def the_first_stage_splits_its_backward(interface: Interface) -> list[bool]:
    """Whether the gradient of the inputs is there when each W of the first stage begins."""
    x, y = batch()
    x.requires_grad_()
    modules, found = [linear(0), linear(1)], []
    schedule = manual(interface, modules, "ScheduleInterleavedZeroBubble", loss_fn=squares)
    weight = interface.module("schedules").BACKWARD_WEIGHT

    def weights(action: Any, context: Any) -> None:
        stage = context.schedule_ref._stages[action.stage_index]
        if stage.is_first:
            rows = slice(2 * action.microbatch_index, 2 * action.microbatch_index + 2)
            found.append(x.grad is not None and bool(x.grad[rows].abs().sum() > 0))
        stage.backward_weight_one_chunk(action.microbatch_index)

    schedule.register_custom_function(weight, weights)
    train(schedule, x, target=y)
    return found
