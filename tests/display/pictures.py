"""What is drawn in these tests."""

from funpipe import MeshShape
from funpipe.runtime.profiling import Event, Profile
from funpipe.schedules import Communication, OneFOneB, Overlap, Table, Task, simulate

# Two tasks that run together on rank 0, four stages in a V on two ranks.
PAIR = Table.from_rows(
    [
        [
            *(Task("F", 0, 0), None, None, Task("F", 3, 0), Overlap(Task("F", 0, 1), Task("B", 3, 0))),
            *(None, Task("F", 3, 1), Task("B", 3, 1), Task("B", 0, 0), Task("B", 0, 1)),
        ],
        [None, *(Task(kind, s, i) for i in (0, 1) for kind, s in [("F", 1), ("F", 2), ("B", 2), ("B", 1)])],
    ],
    placement=(0, 1, 1, 0),
    num_microbatches=2,
)

TABLE = OneFOneB().table(2, 3)
SIMULATION = simulate(TABLE, F=1.0, B=2.0, communication=Communication(latency=0.5))

# Rank 0 runs and sends F0, waits, runs B0 and updates; rank 1 waits, runs F0 and B0.
PROFILE = Profile(
    (
        Event(0, "before", "before", None, None, 0.0, 0.001),
        Event(0, "h@0 = run F0 0 (batch.x@0)", "F", 0, 0, 0.001, 0.003),
        Event(0, "send 0 h@0", "send", 0, 0, 0.003, 0.0035, message=0, nbytes=8),
        Event(0, "d@0 = wait_recv 1 d@0", "wait_recv", 0, 0, 0.0035, 0.009, message=1, nbytes=8),
        Event(0, "g = run B0 0 <&>", "B", 0, 0, 0.009, 0.013),
        Event(0, "update b", "update", 0, None, 0.013, 0.014),
        Event(1, "h@0 = wait_recv 0 h@0", "wait_recv", 1, 0, 0.0, 0.004, message=0, nbytes=8),
        Event(1, "loss@0 = run F1 0 (h@0)", "F", 1, 0, 0.004, 0.006),
        Event(1, "d@0 = run B1 0", "B", 1, 0, 0.006, 0.009),
    ),
    MeshShape(2),
)
