"""Shares, tables and the file of a profile of two ranks."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funpipe._typing import MeshShape
from funpipe.runtime.profiling import Event, Profile
from funpipe.runtime.profiling.event import SHARES

KINDS = [kind for kinds in SHARES.values() for kind in kinds]


def profile_of(*rows, mesh=None):
    """Ranks from rows of (kind, duration)."""
    events = []
    for rank, row in enumerate(rows):
        now = 0.0
        for kind, duration in row:
            events.append(Event(rank, kind, kind, 0, 1, now, now + duration))
            now += duration
    return Profile(tuple(events), mesh or MeshShape(len(rows)))


@pytest.fixture
def pair():
    """
    rank 0: F1 F1 send -- -- --
    rank 1: wait_recv  F1 B1
    """
    first = (Event(0, "run", "F", 0, 1, 0.0, 2.0), Event(0, "send 7", "send", 0, 1, 2.0, 3.0, 7, 64))
    second = (
        Event(1, "wait", "wait_recv", 1, 1, 0.0, 3.0, 7, 64),
        Event(1, "run", "F", 1, 1, 3.0, 4.0),
        Event(1, "run", "B", 1, 1, 4.0, 6.0),
    )
    return Profile((*first, *second), MeshShape(2))


def test_shares_are_parts_of_each_ranks_own_time(pair):
    first, second = pair.shares()
    assert first == pytest.approx({"compute": 2 / 3, "communication": 1 / 3, "bubble": 0, "update": 0, "host": 0})
    assert second == pytest.approx({"compute": 0.5, "communication": 0, "bubble": 0.5, "update": 0, "host": 0})


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.floats(1e-6, 1.0)), min_size=1, max_size=20))
def test_shares_sum_to_one(row):
    assert sum(profile_of(row).shares()[0].values()) == pytest.approx(1.0)


def test_the_tables_show_kinds_and_ranks(pair):
    kinds, ranks = pair.as_text().split("\n\n")
    assert [line.split() for line in kinds.splitlines()] == [
        ["kind", "count", "total", "ms", "mean", "ms"],
        ["F", "2", "3000.000", "1500.000"],
        ["send", "1", "1000.000", "1000.000"],
        ["wait_recv", "1", "3000.000", "3000.000"],
        ["B", "1", "2000.000", "2000.000"],
    ]
    assert [line.split()[:2] for line in ranks.splitlines()[1:]] == [["0", "3000.000"], ["1", "6000.000"]]
    assert len({len(line) for line in ranks.splitlines()}) == 1


def saved(profile, tmp_path):
    profile.save(tmp_path / "trace.json")
    return json.loads((tmp_path / "trace.json").read_text())["traceEvents"]


def test_the_file_has_a_row_for_each_rank(pair, tmp_path):
    found = saved(pair, tmp_path)
    assert [(e["pid"], e["args"]["name"]) for e in found if e["name"] == "process_name"] == [
        (0, "rank 0"),
        (1, "rank 1"),
    ]


def test_the_file_has_every_event_in_microseconds(pair, tmp_path):
    slices = [e for e in saved(pair, tmp_path) if e["ph"] == "X"]
    assert [(e["pid"], e["name"], e["ts"], e["dur"]) for e in slices] == [
        (0, "F1", 0.0, 2e6),
        (0, "send", 2e6, 1e6),
        (1, "wait_recv", 0.0, 3e6),
        (1, "F1", 3e6, 1e6),
        (1, "B1", 4e6, 2e6),
    ]
    assert slices[1]["args"] == {"instruction": "send 7", "stage": 0, "microbatch": 1, "bytes": 64}


def test_an_arrow_goes_from_the_send_into_the_wait(pair, tmp_path):
    start, end = (next(e for e in saved(pair, tmp_path) if e["ph"] == ph) for ph in "sf")
    assert (start["pid"], start["ts"], start["id"]) == (0, 2e6, end["id"])
    assert end["pid"] == 1 and 2e6 < end["ts"] < 3e6


def test_messages_of_replicas_are_not_mixed_up(pair, tmp_path):
    from dataclasses import replace

    other = tuple(replace(e, rank=e.rank + 2) for e in pair.events)
    found = saved(Profile((*pair.events, *other), MeshShape(2, 2)), tmp_path)
    arrows = {}
    for event in found:
        if event["ph"] in "sf":
            arrows.setdefault(event["id"], []).append(event["pid"])
    assert sorted(arrows.values()) == [[0, 1], [2, 3]]
    assert "rank 3 (replica 1, pipeline rank 1)" in {e["args"]["name"] for e in found if e["name"] == "process_name"}


def test_a_send_whose_receiver_was_not_seen_has_no_arrow(tmp_path):
    alone = Profile((Event(0, "send", "send", 0, 0, 0.0, 1.0, 3, 4),), MeshShape(2))
    assert not [e for e in saved(alone, tmp_path) if e["ph"] in "sf"]
    assert alone.shares()[1] == dict.fromkeys(SHARES, 0.0)
