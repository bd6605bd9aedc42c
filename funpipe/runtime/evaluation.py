"""The engine of an evaluation: the forward alone, on the state of a training step."""

from funpipe._typing import Tree
from funpipe.runtime.engine import Engine
from funpipe.runtime.follow import require_held
from funpipe.runtime.setup import Setup
from funpipe.schedules import FromTable, GPipe, Table, forward_only, resolve


def evaluation(setup: Setup, train: Engine, batch: Tree) -> Engine:
    """An engine for the forward alone, cut where the training step keeps its leaves.

    Args:
        setup: of the evaluation.
        train: the training step's.
        batch: only structure, shapes and dtypes are read.

    Raises:
        StateError: the training step has no state yet.
        StageError: the evaluation reads leaves in an order that the training step's placement does not allow.
    """
    model, lowered = train.first()
    table = forwards(setup, lowered.schedule)
    cutter = train.follow()
    engine = Engine(setup, False, cutter, table, lowered.all.layout, transport=train.transport, key=train.key)
    params, held = model.values or (model.tree[0], train.buffers_with_values())
    require_held(cutter.holders, engine.prepare(params, batch, held, model.device)[1].stages)
    return engine


def forwards(setup: Setup, table: Table) -> Table:
    """The forwards of a training step's table; GPipe's for a number of microbatches that its schedule may not have.

    A table of the user's own is for its own number of microbatches only.

    Args:
        setup: of the evaluation.
        table: of the training step.

    Raises:
        ScheduleError: a table of the user's own is for another number of microbatches.
    """
    if setup.num_microbatches == table.num_microbatches:
        return forward_only(table)
    if isinstance(resolve(setup.schedule), FromTable):
        return forward_only(setup.table(table.num_stages))
    return forward_only(GPipe(stage_to_rank=table.placement).table(table.num_ranks, setup.num_microbatches))
