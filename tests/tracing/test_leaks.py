"""After a trace a module holds nothing of it."""

import torch
from torch import Tensor, nn

import funpipe as fp


class Keeping(nn.Module):
    """Keeps masks and losses of its last call in every way that modules do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(3, 3), None
        self.seen: list[Tensor] = []
        self.tables: dict[str, Tensor] = {"before": torch.ones(3)}
        self.shape: tuple[int, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = x.new_ones(3) * 2
        if "mask" not in self.tables:
            self.tables["mask"] = x.new_ones(3)
        self.register_buffer("late", x.new_zeros(3), persistent=False)
        out = self.layer(x) * self.scale * self.tables["mask"] + self.late
        self.aux = out.square().mean()
        self.seen.append(out)
        self.shape = tuple(x.shape)
        return out


def _loss(module: Keeping):
    apply, params, buffers = fp.functionalize(module)

    def loss(params: dict[str, Tensor], x: Tensor) -> Tensor:
        return apply(params, buffers, x)[0].sum() + module.aux  # read after the call, as losses of experts are

    return loss, params


def test_what_a_module_keeps_can_be_read_while_it_is_traced_and_is_gone_afterwards():
    module = Keeping()
    loss, params = _loss(module)
    fp.trace(loss, params, torch.ones(2, 3))
    assert (module.scale, module.seen, list(module.tables)) == (None, [], ["before"])
    assert not hasattr(module, "aux") and not hasattr(module, "late")
    assert module.shape == (2, 3)  # a Python value is no stand-in


def test_a_module_runs_after_a_trace_and_keeps_real_tensors_from_before():
    module, x = Keeping(), torch.ones(2, 3)
    wanted = module(x)
    kept = module.aux, module.late
    loss, params = _loss(module)
    fp.trace(loss, params, torch.ones(4, 3))
    assert module.aux is kept[0] and module.seen[0] is wanted and len(module.seen) == 1
    assert torch.equal(module(x), wanted)


class Counting(nn.Module):
    """Counts its calls in every way that modules do, for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls, self.shapes = nn.Linear(3, 3), 0, []
        self.sizes, self.tally = set(), {"calls": 0}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.shapes.append(x.shape)
        self.sizes.add((self.calls, x.shape))
        self.tally["calls"] += 1
        self.last = self.calls
        return self.layer(x)


def test_what_a_module_counts_it_counts_once_in_a_trace():
    module = Counting()
    apply, params, _ = fp.functionalize(module)
    shapes = module.shapes
    fp.trace(lambda p, x: apply(p, {}, x)[0].sum(), params, torch.ones(2, 3))
    assert (module.calls, module.last, module.tally) == (1, 1, {"calls": 1})
    assert module.shapes is shapes == [(2, 3)] and module.sizes == {(1, (2, 3))}
