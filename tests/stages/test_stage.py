import re

import torch

from funpipe.stages import partition
from funpipe.tracing import trace


def stages():
    loss = lambda p, x: torch.tanh(x @ p["a"] @ p["b"]).sum()  # noqa: E731
    traced = trace(loss, {"a": torch.ones(3, 3), "b": torch.ones(3, 2)}, torch.ones(4, 3))
    return partition(traced, (1,))


def test_a_region_prints_its_signature_and_operations():
    assert stages()[0].F.as_text().splitlines() == [
        "F0(param.a: float32[3,3], batch.: float32[4,3])",
        "  mm = aten.mm.default(x1_batch_, x0_param_a)",
        "  -> mm: float32[4,3]",
    ]


def test_a_stage_prints_its_parameters_and_regions():
    first, second = stages()
    assert first.as_text().startswith("stage 0: 1 parameters, owns 1\nF0(param.a")
    assert re.search(r"\nB1\(param.b: .*\n  -> .*: float32\[3,2\]", second.as_text(), re.DOTALL)


def test_regions_are_named_by_kind_and_stage():
    assert [r.name for s in stages() for r in s.regions] == ["F0", "B0", "F1", "B1"]
