import json

from funpipe._trace_events import process, span, thread, write


def test_a_group_of_rows_has_a_name_and_a_place():
    name, place = process(3, "rank 3")
    assert (name["name"], name["pid"], name["args"]) == ("process_name", 3, {"name": "rank 3"})
    assert (place["name"], place["pid"], place["args"]) == ("process_sort_index", 3, {"sort_index": 3})
    assert thread(3, 1, "messages")["args"] == {"name": "messages"}


def test_times_are_microseconds():
    event = span("F0", "compute", (3, 0), (0.5, 0.75), {"stage": 1})
    assert event == {
        **{"ph": "X", "name": "F0", "cat": "compute", "pid": 3, "tid": 0},
        **{"ts": 500_000.0, "dur": 250_000.0, "args": {"stage": 1}},
    }


def test_the_file(tmp_path):
    write(tmp_path / "trace.json", iter([{"ph": "X"}]))
    assert json.loads((tmp_path / "trace.json").read_text()) == {"traceEvents": [{"ph": "X"}], "displayTimeUnit": "ms"}
