"""The time and memory of converting and cutting a large real model that has no memory itself, each in a process.

    python -m tests.benchmarks.convert                   Llama of 24 layers, four stages
    python -m tests.benchmarks.convert --layers 48 --model GPT2

| row      | what is done                                                                                    |
|----------|-------------------------------------------------------------------------------------------------|
| trace    | `fp.functionalize` and `fp.trace`: forward and backward                                         |
| cut      | `fp.stages.split_at` and `fp.stages.partition`: every stage's graphs                            |
| pipeline | `torch.distributed.pipelining.pipeline()` with the same cuts, under `no_grad`; forward alone     |
| ours     | `funpipe.interop.pipelining.pipeline()`; forward alone                                           |

The model is on the meta device; `processor` is the time of it all on a core, whatever else runs; memory is what the
process holds at its peak (`ru_maxrss`) above what it held before.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from resource import RUSAGE_SELF, getrusage
from typing import Any

import torch
from torch import Tensor, nn

ROWS = ("funpipe", "pipeline", "ours")
LENGTH, STAGES = 1024, 4
SIZES = {"hidden_size": 2048, "num_attention_heads": 16, "vocab_size": 32000, "max_position_embeddings": 2048}
LAYERS = {"Llama": "model.layers", "GPT2": "transformer.h"}


def build(name: str, layers: int) -> nn.Module:
    """A model of transformers without memory."""
    import transformers

    kind = {"Llama": transformers.LlamaForCausalLM, "GPT2": transformers.GPT2LMHeadModel}[name]
    with torch.device("meta"):
        return kind(kind.config_class(**SIZES, num_hidden_layers=layers, use_cache=False)).eval()


def cuts(name: str, layers: int) -> list[str]:
    """The modules before which a model is cut."""
    return [f"{LAYERS[name]}.{layers * i // STAGES}" for i in range(1, STAGES)]


def batch() -> dict[str, Tensor]:
    """One microbatch."""
    ids = torch.zeros(1, LENGTH, dtype=torch.int64)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def by_funpipe(model: nn.Module, before: list[str]) -> dict[str, float]:
    """Seconds of the trace, and of the cut."""
    import funpipe as fp

    apply, params, buffers = fp.functionalize(model)

    def loss(params: dict[str, Tensor], batch: dict[str, Tensor], *, buffers: dict[str, Tensor]) -> fp.Out:
        out, new = apply(params, buffers, **batch)
        return fp.Out(out["loss"], buffers=new)

    traced, seconds = timed(lambda: fp.trace(loss, params, batch(), buffers=buffers))
    split = fp.stages.split_at(dict.fromkeys(before, "beginning"))
    _, more = timed(lambda: fp.stages.partition(traced, split(traced)))
    return {"trace": seconds, "cut": more}


def by_pipeline(model: nn.Module, before: list[str]) -> dict[str, float]:
    """Seconds of the original."""
    from torch.distributed.pipelining import SplitPoint, pipeline

    return {"pipeline": _pipeline(pipeline, SplitPoint, model, before)}


def by_ours(model: nn.Module, before: list[str]) -> dict[str, float]:
    """Seconds of ours in its place."""
    from funpipe.interop.pipelining import SplitPoint, pipeline

    return {"ours": _pipeline(pipeline, SplitPoint, model, before)}


def _pipeline(pipeline: Callable[..., Any], point: Any, model: nn.Module, before: list[str]) -> float:
    spec, given = dict.fromkeys(before, point.BEGINNING), {n: t.to("meta") for n, t in batch().items()}
    with torch.no_grad():
        return timed(lambda: pipeline(model, (), given, split_spec=spec))[1]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its seconds."""
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def child(row: str, name: str, layers: int) -> None:
    """Measures a row in this process, and prints it."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model = build(name, layers)
    run = {"funpipe": by_funpipe, "pipeline": by_pipeline, "ours": by_ours}[row]
    held = getrusage(RUSAGE_SELF).ru_maxrss
    before = time.process_time()
    found = run(model, cuts(name, layers))
    found["processor"] = time.process_time() - before
    print(json.dumps({**found, "MiB": (getrusage(RUSAGE_SELF).ru_maxrss - held) / 1024}))


def measure(row: str, name: str, layers: int) -> dict[str, float]:
    """Measures a row in a process of its own."""
    words = [sys.executable, "-m", "tests.benchmarks.convert", "--row", row, "--model", name, "--layers", str(layers)]
    done = subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main(given: Sequence[str] | None = None) -> None:
    """Prints a line for each row."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.convert")
    parser.add_argument("--model", choices=sorted(LAYERS), default="Llama")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--row", choices=ROWS, help="in this process; all, each in its own, by default")
    asked = parser.parse_args(given)
    if asked.row:
        child(asked.row, asked.model, asked.layers)
        return
    print(f"{asked.model}, {asked.layers} layers of width {SIZES['hidden_size']}, {STAGES} stages")
    for row in ROWS:
        found = measure(row, asked.model, asked.layers)
        cells = [f"{n} {v:.1f} s" for n, v in found.items() if n != "MiB"]
        print(f"  {', '.join(cells):42} {found['MiB']:6.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
