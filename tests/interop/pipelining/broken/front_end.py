"""The tracing front end: `pipeline`, the modules of its stages, and what they keep of the model."""

import io
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tests.interop.pipelining.broken.cases import Interface, case, returns


class Layers(nn.Module):
    """Four linear layers, with a mark of the given interface before some of them."""

    def __init__(self, interface: Interface, marks: Iterable[int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
        self.mark, self.marks = interface.pipe_split, tuple(marks)

    def forward(self, x: Tensor) -> Tensor:
        """Through all layers."""
        for number, layer in enumerate(self.layers):
            for _ in range(self.marks.count(number)):
                self.mark()
            x = torch.tanh(layer(x))
        return x


def split(interface: Interface, model: nn.Module, *args: Any, **options: Any) -> Any:
    """`pipeline` on inputs of four columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return interface.pipeline(model, args or (torch.ones(2, 4),), **options)


def stages_of(pipe: Any) -> list[nn.Module]:
    """Every stage's module."""
    return [pipe.get_stage_module(index) for index in range(pipe.num_stages)]


@case("3b.7a", returns(2))
def marks_without_a_layer_between_them(interface: Interface) -> int:
    return len(stages_of(split(interface, Layers(interface, [2, 2]))))


@case("3b.7b", returns(2))
def a_mark_before_the_first_layer(interface: Interface) -> int:
    return len(stages_of(split(interface, Layers(interface, [0, 2]))))


@case("3b.7c", returns([2, 2]))
def the_same_module_is_cut_twice(interface: Interface) -> list[int]:
    model, spec = Layers(interface, []), {"layers.2": interface.SplitPoint.BEGINNING}
    return [split(interface, model, split_spec=dict(spec)).num_stages for _ in range(2)]


@case("3a.3a", returns([]))
def cutting_leaves_the_model_as_it_was(interface: Interface) -> list[str]:
    model = Layers(interface, [])
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    split(interface, model, split_spec={"layers.2": interface.SplitPoint.BEGINNING})
    return sorted(n for name, m in model.named_modules() for n in set(vars(m)) - before[name])


@case("3b.7d", returns(True))
def eval_stops_dropout(interface: Interface) -> bool:
    stage = stages_of(split(interface, nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))))[0]
    stage.eval()
    x = torch.ones(8, 4)
    return all(torch.equal(_first(stage(x)), _first(stage(x))) for _ in range(4))


def _first(found: Any) -> Tensor:
    return found[0] if isinstance(found, tuple) else found


@case("3b.7e", returns(True))
def stages_go_through_pickle(interface: Interface) -> bool:
    stage, file, x = stages_of(split(interface, Layers(interface, [2])))[1], io.BytesIO(), torch.ones(2, 4)
    torch.save(stage, file)
    file.seek(0)
    return torch.equal(_first(torch.load(file, weights_only=False)(x)), _first(stage(x)))


class CalledTwice(nn.Module):
    """One layer on both sides of a mark."""

    def __init__(self, interface: Interface) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared, self.mark = nn.Linear(4, 4), interface.pipe_split

    def forward(self, x: Tensor) -> Tensor:
        """Twice through the layer."""
        x = torch.tanh(self.shared(x))
        self.mark()
        return torch.tanh(self.shared(x))


@case("3b.7f", returns([["shared.bias", "shared.weight"]] * 2))
def a_module_called_in_two_stages_keeps_its_name(interface: Interface) -> list[list[str]]:
    return [sorted(stage.state_dict()) for stage in stages_of(split(interface, CalledTwice(interface)))]


class Unused(Layers):
    """Has a parameter that no layer uses."""

    def __init__(self, interface: Interface) -> None:
        super().__init__(interface, [2])
        self.spare = nn.Parameter(torch.ones(4))


@case("3b.7g", returns(True))
def a_parameter_that_nothing_uses_is_in_a_stage(interface: Interface) -> bool:
    return any("spare" in stage.state_dict() for stage in stages_of(split(interface, Unused(interface))))


class Buffered(Layers):
    """Has a buffer that is not saved."""

    scale: Tensor

    def __init__(self, interface: Interface) -> None:
        super().__init__(interface, [2])
        self.register_buffer("scale", torch.full((4,), 2.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scaled."""
        return super().forward(x * self.scale)


@case("3a.3b", returns([]))
def buffers_that_are_not_saved_stay_so(interface: Interface) -> list[str]:
    stages = stages_of(split(interface, Buffered(interface)))
    return [name for stage in stages for name in stage.state_dict() if "scale" in name]


class Named(Layers):
    """Returns a dict with a tuple in it."""

    def forward(self, x: Tensor) -> dict[str, Any]:
        """The output and its halves."""
        y = super().forward(x)
        return {"y": y, "parts": (y[:, :2], y[:, 2:])}


@case("3a.3c", returns("dict(parts=tuple(Tensor, Tensor), y=Tensor)"))
def the_last_stage_returns_what_the_model_returns(interface: Interface) -> str:
    first, last = stages_of(split(interface, Named(interface, [2])))
    return structure(last(_first(first(torch.ones(2, 4)))))


def structure(found: Any) -> str:
    """A tree's structure as text; what is neither a dict nor a tuple or list is a leaf."""
    if isinstance(found, dict):
        return f"dict({', '.join(f'{name}={structure(found[name])}' for name in sorted(found))})"
    if isinstance(found, (tuple, list)):
        return f"{type(found).__name__}({', '.join(map(structure, found))})"
    return type(found).__name__


class Tied(Layers):
    """The first layer and the last one have one weight."""

    def __init__(self, interface: Interface) -> None:
        super().__init__(interface, [2])
        self.layers[3].weight = self.layers[0].weight


@case("3a.3d", returns(True))
def a_tied_weight_is_one_parameter_in_both_stages(interface: Interface) -> bool:
    first, last = stages_of(split(interface, Tied(interface)))
    return first.get_parameter("layers.0.weight") is last.get_parameter("layers.3.weight")
