"""Trains a small GPT as a pipeline over processes: two of this machine by default, or those of torchrun.

    python examples/train_gpt.py
    python examples/train_gpt.py --dp 2 --schedule gpipe
    torchrun --nproc-per-node 2 examples/train_gpt.py

The model (gpt.py) and the text (text.py) know nothing of pipelines; what makes one is in `training_step`.
"""

import argparse
import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from threading import RLock

import options as command_line
import text
import torch
from gpt import GPT, sample
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import funpipe as fp

Batch = dict[str, Tensor]


def main() -> None:
    """Runs `train` on all ranks, and ends with a line where it cannot go on."""
    options = command_line.parse()
    try:
        if "RANK" in os.environ:  # torchrun started this process as one of the ranks
            train(options)
        else:
            fp.launch(train, options.ranks * options.dp, options)
    except fp.FunpipeError as error:
        sys.exit(f"train_gpt.py: {error}")
    except KeyboardInterrupt:
        stop(options.checkpoint)


def train(options: argparse.Namespace) -> None:
    """What each rank does, from the first parameters to the report."""
    mesh = fp.mesh(pp=options.ranks, dp=options.dp, device=options.device)
    if leads() and not options.newest:
        set_aside(options.checkpoint)  # the other ranks touch the folder only when all save together
    torch.manual_seed(options.seed)
    model = GPT(options.context, options.width, options.layers, options.heads)
    corpus = text.load()

    def batch(number: int) -> Batch:
        """This replica's share of the batch of a step."""
        whole = corpus.batch(options.batch_size, options.context, options.seed, number)
        return {name: windows.chunk(options.dp)[mesh.dp_rank] for name, windows in whole.items()}

    step, params = training_step(model, mesh, options)
    state = step.init(params, batch(0))
    if options.newest:
        state = load(options.newest, step, state, mesh)
    state = run(step, state, batch, mesh, options)
    params, buffers = step.gather(state)
    if leads():
        report(fp.restore(model, params, buffers), corpus, step, options)


def training_step(model: GPT, mesh: fp.Mesh, options: argparse.Namespace) -> tuple[fp.TrainStep, dict[str, Tensor]]:
    """Makes a module a pipeline that trains it; the step, and the first parameters."""
    apply, params, buffers = fp.functionalize(model)

    def loss_fn(params: dict[str, Tensor], batch: Batch) -> Tensor:
        logits, _ = apply(params, buffers, batch["x"])
        return F.cross_entropy(logits.flatten(0, 1), batch["y"].flatten())

    schedule = fp.schedules.get(options.schedule)()
    lr = fp.optim.warmup_cosine(options.lr, options.steps // 10, options.steps, end=options.lr / 20)
    step = fp.train_step(
        loss_fn,
        fp.optim.adamw(lr, betas=(0.9, 0.99), weight_decay=0.1, decay_mask=lambda name, leaf: leaf.dim() > 1),
        mesh=mesh,
        stages=fp.stages.balanced(schedule.num_stages(options.ranks)),
        schedule=schedule,
        num_microbatches=options.microbatches,
        backend=options.backend,
    )
    return step, params


def run(
    step: fp.TrainStep, state: fp.State, batch: Callable[[int], Batch], mesh: fp.Mesh, options: argparse.Namespace
) -> fp.State:
    """Makes the updates that are left, under a bar with the loss and the tokens (bytes) in a second."""
    with progress(state.step, options) as bar:
        step.compile(batch(0))
        bar.set_description("training")
        bar.unpause()
        for number in range(state.step, options.steps):
            state, metrics = step(state, batch(number))
            if leads():
                bar.set_postfix(loss=f"{float(metrics['loss']):.3f}", refresh=False)
            bar.update(options.batch_size * options.context)
            if (number + 1) % options.checkpoint_every == 0 or number + 1 == options.steps:
                save(step, state, mesh, options)
    return state


def progress(done: int, options: argparse.Namespace) -> tqdm:
    """A bar on the first rank that counts tokens; it waits for the compiler first."""
    tqdm.set_lock(RLock())  # the default is a lock between processes, which outlives a rank that Ctrl-C ends
    size = options.batch_size * options.context
    desc = "preparing" if options.backend == "interpret" else "compiling"
    total, initial = options.steps * size, done * size
    return tqdm(desc=desc, total=total, initial=initial, unit=" tokens", unit_scale=True, disable=not leads())


def save(step: fp.TrainStep, state: fp.State, mesh: fp.Mesh, options: argparse.Namespace) -> None:
    """Writes a checkpoint under the module's own names, with the options that a resumed run must keep."""
    saved = {**step.state_dict(state), "options": command_line.deciding(options)}
    fp.checkpoint.save(options.checkpoint / f"step-{state.step}", saved, mesh)


def load(path: Path, step: fp.TrainStep, state: fp.State, mesh: fp.Mesh) -> fp.State:
    """The state in a checkpoint; each rank reads its own part, however many ranks wrote it."""
    return step.load(state, fp.checkpoint.load(path, step.state_dict(state), mesh))


def report(model: GPT, corpus: text.Text, step: fp.TrainStep, options: argparse.Namespace) -> None:
    """Prints the schedule, the held-out loss, a text of the model's own, and where the checkpoint is."""
    table = step.lowered.schedule
    simulation = fp.schedules.simulate(table, F=1, B=2)
    idle = f"{simulation.bubble / simulation.makespan:.0%}"
    print(f"\nschedule {options.schedule}, idle for {idle} of a step where a backward takes two forwards:")
    print(table.as_text())
    held_out = text.held_out_loss(model, corpus, options.context)
    print(f"\nheld-out loss {held_out:.4f} nats a byte (a bigram model: {text.bigram_loss(corpus):.4f})\n")
    print(sample(model, b"The ", options.sample_bytes, options.seed).decode(errors="replace"))
    print(f"\ncheckpoint {fp.checkpoint.latest(options.checkpoint)}")


def set_aside(folder: Path) -> None:
    """Renames the folder of an earlier run, so that this one begins with an empty one and nothing is lost."""
    if fp.checkpoint.latest(folder):
        names = (folder.with_name(f"{folder.name}-{number}") for number in count(1))
        folder.rename(next(name for name in names if not name.exists()))


def stop(folder: Path) -> None:
    """Ends this process as Ctrl-C should, with a line on what is kept."""
    newest = fp.checkpoint.latest(folder)
    if leads():
        kept = f"--resume goes on from {newest}" if newest else "there is no checkpoint yet"
        print(f"\nstopped; {kept}", file=sys.stderr)
    sys.exit(130)


def leads() -> bool:
    """Whether this is the process that speaks."""
    return os.environ.get("RANK", "0") == "0"


if __name__ == "__main__":
    main()
