"""The times of rows, and how long everything takes that still follows a task."""

from dataclasses import dataclass

from funpipe.schedules.search_graph import Graph, Rows


@dataclass(frozen=True)
class Timing:
    """When the tasks of rows end.

    Args:
        makespan: the time of the last end.
        end: the end of each task; 0 for none.
        order: all tasks, each after what it waits for.
    """

    makespan: float
    end: list[float]
    order: list[int]


@dataclass(frozen=True)
class Found:
    """Rows that run to their ends.

    Args:
        graph: their tasks.
        rows: the rows.
        times: when their tasks end.
    """

    graph: Graph
    rows: Rows
    times: Timing

    @property
    def makespan(self) -> float:
        """The time of the last end."""
        return self.times.makespan


def timing(graph: Graph, rows: Rows) -> Timing | None:
    """Runs rows, each rank as far as it gets before it waits for another; None: they end in a deadlock."""
    need, delay, duration = graph.need, graph.delay, graph.duration
    end = [-1.0] * graph.none + [0.0]
    reached, clock = [0] * len(rows), [0.0] * len(rows)
    waiting: dict[int, int] = {}  # the rank that waits for a task
    going, order = list(range(len(rows))), []
    while going:
        rank = going.pop()
        row, now = rows[rank], clock[rank]
        for at in range(reached[rank], len(row)):
            number = row[at]
            there = end[need[number]]
            if there < 0:
                waiting[need[number]], reached[rank] = rank, at
                break
            there += delay[number]
            now = end[number] = (there if there > now else now) + duration[number]
            order.append(number)
            if number in waiting:
                going.append(waiting.pop(number))
        clock[rank] = now
    return None if waiting else Timing(max(clock), end, order)


def tails(graph: Graph, rows: Rows, order: list[int]) -> list[float]:
    """For each task the time from its end to the end of all, if nothing but what follows it counted; 0 for none."""
    duration, delay = graph.duration, graph.delay
    after = [graph.none] * graph.none  # the task to the right
    for row in rows:
        for number, following in zip(row, row[1:], strict=False):
            after[number] = following
    tail = [0.0] * (graph.none + 1)
    for number in reversed(order):
        longest = tail[after[number]] + duration[after[number]]
        for reader in graph.readers[number]:
            along = tail[reader] + duration[reader] + delay[reader]
            if along > longest:
                longest = along
        tail[number] = longest
    return tail
