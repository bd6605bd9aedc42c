import pytest

from funpipe._errors import FunpipeTypeError, ScheduleError
from funpipe.schedules import (
    ZBV,
    DualPipeV,
    Eager1F1B,
    ForwardOnly,
    FromTable,
    GPipe,
    Interleaved1F1B,
    InterleavedZeroBubble,
    LoopedBFS,
    OneFOneB,
    Schedule,
    VHalf,
    VMin,
    ZeroBubbleH1,
    ZeroBubbleH2,
    get,
    resolve,
)
from funpipe.schedules.registry import SCHEDULES


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("gpipe", GPipe),
        ("1f1b", OneFOneB),
        ("onefoneb", OneFOneB),
        ("1F1B", OneFOneB),
        ("Eager-1F1B", Eager1F1B),
        ("interleaved_1f1b", Interleaved1F1B),
        ("Looped BFS", LoopedBFS),
        ("ZB-H1", ZeroBubbleH1),
        ("zerobubbleh2", ZeroBubbleH2),
        ("InterleavedZeroBubble", InterleavedZeroBubble),
        ("zbv", ZBV),
        ("V-Half", VHalf),
        ("v-min", VMin),
        ("DualPipeV", DualPipeV),
        ("forward-only", ForwardOnly),
    ],
)
def test_get_by_name(name, schedule):
    assert get(name) is schedule


def test_unknown_name_lists_the_nearest_and_all():
    with pytest.raises(ScheduleError, match="'gpip'; use .* nearest: gpipe, dualpipev; all: gpipe, onefoneb, eag"):
        get("gpip")


def test_a_name_near_to_none_lists_all():
    with pytest.raises(ScheduleError, match=r"'xyz'; use a name of the list \(all: gpipe"):
        get("xyz")


def test_resolve_takes_a_name_a_schedule_or_a_table():
    table = GPipe().table(2, 2)
    assert resolve("1f1b") == OneFOneB()
    assert resolve(GPipe()) == GPipe()
    assert resolve(table) == FromTable(table)


def test_a_name_takes_the_stages_per_rank_where_it_has_that_option():
    assert resolve("interleaved1f1b", stages_per_rank=3) == Interleaved1F1B(3)
    assert resolve("1f1b", stages_per_rank=3) == OneFOneB()
    assert resolve("looped-bfs") == LoopedBFS(2)
    assert resolve(LoopedBFS(2), stages_per_rank=3) == LoopedBFS(2)


def test_resolve_asks_for_an_instance():
    with pytest.raises(FunpipeTypeError, match=r"is the class GPipe; make one: GPipe\(\)\."):
        resolve(GPipe)  # pyright: ignore[reportArgumentType]


def test_resolve_refuses_the_rest():
    with pytest.raises(FunpipeTypeError, match="schedule is a int; pass a name, a Schedule or a Table"):
        resolve(3)  # pyright: ignore[reportArgumentType]


def test_every_schedule_has_the_name_of_its_class():
    assert {cls.__name__.lower() for cls in Schedule.__subclasses__()} - {"fromtable"} <= set(SCHEDULES)
