"""A second simulator, event by event and one task at a time, and the random questions that both are asked."""

from dataclasses import dataclass, field

from hypothesis import strategies as st

from funpipe._errors import ScheduleError
from funpipe.schedules import Communication, Overlap, Table, check
from tests.schedules.tables import needs, tables

times = st.floats(0, 10)


@dataclass
class Plain:
    """Runs a table; afterwards its attributes tell what happened.

    `times[kind][stage]`, `FB[rank]` or None; communication numbers are lists, one for each boundary.
    """

    table: Table
    times: dict
    FB: list | None = None
    communication: Communication = field(default_factory=Communication)

    def __post_init__(self):
        p = self.table.num_ranks
        self.clock, self.start, self.end, self.arrival = [0.0] * p, {}, {}, {}
        self.usable, self.free, self.busy = {}, {}, [0.0] * p
        self.idle = {cause: [0.0] * p for cause in ("fill", "input", "communication", "drain")}
        left = {rank: [parts(item) for item in self.table.order(rank)] for rank in range(p)}
        ran = dict.fromkeys(left, False)
        while any(left.values()):
            for rank, row in left.items():
                while row and all(t in self.end for t in self.sources(row[0]) if t not in row[0]):
                    self.run(rank, row.pop(0), is_first=not ran[rank])
                    ran[rank] = True
        self.makespan = max(self.end.values())
        self.idle["drain"] = [self.makespan - clock for clock in self.clock]

    def sources(self, tasks):
        """The tasks that are waited for: of the options, the one that the table has."""
        options = [option for task in tasks for option in needs(task, self.table.num_stages)]
        mine = set(self.all_tasks())
        return [next(t for t in some if t in mine) for some in options]

    def all_tasks(self):
        return [t for rank in range(self.table.num_ranks) for item in self.table.order(rank) for t in parts(item)]

    def run(self, rank, tasks, is_first):
        far = [t for t in self.sources(tasks) if self.table.placement[t.stage] != rank]
        last = max(far, key=self.usable.get, default=None)
        waited = max(0.0, self.usable[last] - self.clock[rank]) if far else 0.0
        computed = min(waited, max(0.0, self.end[last] - self.clock[rank])) if far else 0.0
        receive = sum(self.busy_time(t) for t in far)
        start = max([self.clock[rank], *(self.usable[t] for t in far)]) + receive
        cost = [self.times[t.kind][t.stage] for t in tasks]
        taken = self.FB[rank] if self.FB and len(tasks) == 2 else sum(cost)
        self.clock[rank] = end = start + taken
        for task in tasks:
            self.start[task], self.end[task] = start, end
        for task in tasks:
            self.send(rank, task)
        self.busy[rank] += taken
        self.idle["fill"][rank] += waited if is_first else 0.0
        self.idle["input"][rank] += 0.0 if is_first else computed
        exchange = receive + self.clock[rank] - end
        self.idle["communication"][rank] += exchange + (0.0 if is_first else waited - computed)

    def send(self, rank, task):
        if (boundary := self.boundary(task)) is None:
            return
        latency, wire = self.link(boundary, task.kind)
        if self.communication.overlap:
            channel = rank, self.table.placement[boundary + (task.kind == "F")]
            self.free[channel] = max(self.clock[rank], self.free.get(channel, 0.0)) + wire
            self.usable[task] = self.arrival[task] = self.free[channel] + latency
        else:
            self.usable[task] = self.clock[rank]
            self.clock[rank] += self.busy_time(task)
            self.arrival[task] = self.clock[rank]

    def boundary(self, task):
        """The boundary that the task's result crosses to another rank, if any."""
        other = {"F": task.stage + 1, "W": -1}.get(task.kind, task.stage - 1)
        if not 0 <= other < self.table.num_stages:
            return None
        far = self.table.placement[other] != self.table.placement[task.stage]
        return min(other, task.stage) if far else None

    def busy_time(self, task):
        return 0.0 if self.communication.overlap else sum(self.link(self.boundary(task), task.kind))

    def link(self, boundary, kind):
        c = self.communication
        amount = c.bytes if kind == "F" else c.bytes_back
        return c.latency[boundary], amount[boundary] / c.bandwidth[boundary]


def parts(item):
    return (item.first, item.second) if isinstance(item, Overlap) else (item,)


@st.composite
def paired_tables(draw):
    """Random tables in which some neighbouring forwards and backwards run together."""
    table = draw(tables())
    rows = [_paired(draw, list(table.order(rank))) for rank in range(table.num_ranks)]
    paired = Table.from_rows(rows, placement=table.placement, num_microbatches=table.num_microbatches)
    try:
        check(paired)
    except ScheduleError:
        return table  # two ranks wait for each other's pairs
    return paired


def _paired(draw, row):
    made = []
    while row:
        one, two = row[0], row[1] if len(row) > 1 else row[0]
        take = 2 if _fits(one, two) and draw(st.booleans()) else 1
        made.append(Overlap(one, two) if take == 2 else one)
        row = row[take:]
    return made


def _fits(one, two):
    return one.kind == "F" and two.kind != "F" and (one.stage, one.microbatch) != (two.stage, two.microbatch)


@st.composite
def questions(draw):
    """A table, and times and communication for it."""
    table = draw(paired_tables())

    def each(count, numbers=times):
        return draw(st.lists(numbers, min_size=count, max_size=count))

    n = table.num_stages
    FB = each(table.num_ranks) if draw(st.booleans()) else None
    communication = Communication(
        latency=each(n - 1),
        bytes=each(n - 1),
        bytes_back=each(n - 1),
        bandwidth=each(n - 1, st.sampled_from([0.5, 1.0, 4.0, float("inf")])),
        overlap=draw(st.booleans()),
    )
    return table, {kind: each(n) for kind in "FBIW"}, FB, communication
