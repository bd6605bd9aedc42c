"""Leaves may have names that Python's names cannot have."""

import torch

import funpipe as fp
from funpipe.tracing.identifier import identifier


def test_what_names_cannot_have_is_replaced():
    assert identifier("x0_w-q@1 ä²").isidentifier()


def test_a_batch_may_have_keys_of_any_text():
    loss = lambda p, b: (b["my-key"] @ p["w 1"]).square().sum()  # noqa: E731
    params, batch = {"w 1": torch.ones(3, 2)}, {"my-key": torch.ones(4, 3)}
    stage = fp.stages.partition(fp.trace(loss, params, batch), ())[0]
    assert stage.F.inputs == ("param.w 1", "batch.my-key")
    assert stage.F.module(params["w 1"], batch["my-key"])[-1] == 72
