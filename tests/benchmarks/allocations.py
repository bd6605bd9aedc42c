"""Memory of tensors on the CPU: what is held, and by how much it rises while something runs."""

import gc
import json
import tempfile
from collections.abc import Callable, Iterable
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile


def held() -> int:
    """Bytes of all tensors that this process's Python objects hold on the CPU, each memory counted once."""
    gc.collect()
    tensors = (t for t in gc.get_objects() if type(t) in (Tensor, nn.Parameter) and t.device.type == "cpu")
    storages = (t.untyped_storage() for t in tensors if t.layout == torch.strided)
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


def rise(run: Callable[[], object]) -> int:
    """The most bytes that were allocated at once while `run` ran, beyond what was there before.

    Every request to torch's allocator counts, from eager operators and from compiled code alike, as the profiler
    records it; the working memory of libraries that ask the system themselves does not. What was allocated before and
    is freed by `run` is not subtracted.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        return highest(json.loads(trace.read_text())["traceEvents"])


def highest(events: Iterable[dict]) -> int:
    """The highest sum of allocations minus frees, over the events of a trace."""
    changes = [e for e in events if e.get("name") == "[memory]" and e["args"]["Device Type"] == 0]
    ordered = sorted(changes, key=lambda e: (e["ts"], e["args"].get("Ev Idx", 0)))
    return max(accumulate((e["args"]["Bytes"] for e in ordered), initial=0))
