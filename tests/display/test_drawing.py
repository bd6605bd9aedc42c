import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given

from funpipe.display import Box, Picture, Svg, compare, picture, svg
from funpipe.display.layout import GUTTER, LETTER
from funpipe.schedules import GPipe, OneFOneB, simulate
from tests.display.pictures import PAIR, PROFILE, SIMULATION, TABLE
from tests.schedules.tables import tables

NAME = "{http://www.w3.org/2000/svg}"


def parsed(drawn):
    """All elements of a picture; every number in it is one."""
    assert not re.search(r"\b(nan|inf)\b", drawn, re.IGNORECASE)
    return ET.fromstring(drawn)


def boxes(drawn):
    """For each box its title, kind, x, y, width and height."""
    found = []
    for group in parsed(drawn).iter(f"{NAME}g"):
        title = group.find(f"{NAME}title")
        for rect in group.findall(f"{NAME}rect") if title is not None else []:
            kind = re.fullmatch(r"url\(#fp-(\w+)\) #\w{6}", rect.get("fill"))[1]
            found.append((title.text, kind, *(float(rect.get(key)) for key in ("x", "y", "width", "height"))))
    return found


def labels(drawn):
    return [text.text for text in parsed(drawn).iter(f"{NAME}text") if re.fullmatch(r"\d*[FBIW]\d+", text.text)]


@given(tables())
def test_a_box_for_each_task_as_long_as_it_takes(table):
    drawn = svg(table, width=100 * table.num_slots)
    found = boxes(drawn)
    tasks = [
        (f"{task}: {slot} to {slot + 1}", task.kind) for row in table.rows for slot, task in enumerate(row) if task
    ]
    assert sorted((title, kind) for title, kind, *_ in found) == sorted(tasks)
    left = float(min(x for _, _, x, *_ in found)) - 100 * min(int(title.split()[1]) for title, *_ in found)
    for title, _, x, _, width, _ in found:
        assert (x, width) == (pytest.approx(left + 100 * int(title.split()[1]), abs=0.06), 100)


@given(tables())
def test_rows_do_not_touch(table):
    tops = {(title.split(":")[0], y) for title, _, _, y, _, _ in boxes(svg(table))}
    rank_of = {str(task): rank for rank, row in enumerate(table.rows) for task in row if task}
    assert {y for _, y in tops} == {8 + 25 * rank for rank in rank_of.values()}
    assert all(y == 8 + 25 * rank_of[task] for task, y in tops)


def test_times_of_a_simulation():
    found = {title: (x, width) for title, kind, x, _, width, _ in boxes(svg(SIMULATION, width=1400)) if kind != "c"}
    left = found["0F0: 0 to 1"][0]
    assert found["0B1: 8 to 10"] == (pytest.approx(left + 800, abs=0.01), 200)
    assert found["result of 0F0 on its way: 1 to 1.5"] == (pytest.approx(left + 100, abs=0.01), 50)


def test_messages_are_below_the_row():
    row = {title: (y, y + height) for title, _, _, y, _, height in boxes(svg(SIMULATION))}
    assert row["result of 0F0 on its way: 1 to 1.5"][0] >= row["0F0: 0 to 1"][1]
    assert row["result of 0F0 on its way: 1 to 1.5"][1] <= row["1F0: 1.5 to 2.5"][0]


def test_two_at_once_share_a_box():
    (above, below) = [box for box in boxes(svg(PAIR)) if "&" in box[0]]
    assert (above[1], below[1]) == ("F", "B")
    assert above[2] == below[2]
    assert above[3] + above[5] == below[3]
    assert {"0F1", "3B0"} <= set(labels(svg(PAIR)))


def test_labels_where_there_is_room():
    assert len(labels(svg(TABLE))) == 12
    assert labels(svg(TABLE, width=80)) == []


def test_patterns_and_legend_tell_kinds_apart():
    root = parsed(svg(TABLE))
    patterns = {p.get("id"): ET.tostring(p[-1]) for p in root.iter(f"{NAME}pattern")}
    assert len(patterns) == len(set(patterns.values())) == 7
    words = [text.text for text in root.iter(f"{NAME}text")]
    assert words[-6:] == ["F", "forward", "B", "backward", "idle", "F0: forward of microbatch 0"]


def test_the_axis_has_round_numbers():
    words = [text.text for text in parsed(svg(TABLE, width=600)).iter(f"{NAME}text")]
    assert [word for word in words if word.isdigit()] == ["0", "1", "2", "3", "4", "5", "6", "7", "8"]
    assert "slot" in words


def test_the_memory_of_each_rank():
    plain, with_memory = parsed(svg(SIMULATION)), parsed(svg(SIMULATION, memory=True))
    words = [text.text for text in with_memory.iter(f"{NAME}text")]
    assert "memory of each rank" in words
    assert [word for word in words if word.startswith("peak")] == ["peak 2", "peak 1"]
    assert float(with_memory.get("height")) > float(plain.get("height"))


def test_a_comparison():
    drawn = svg(compare(simulate(GPipe().table(2, 1), F=0.002, B=0.004), PROFILE))
    words = [text.text for text in parsed(drawn).iter(f"{NAME}text")]
    assert words[:4] == ["rank 0 predicted", "rank 0 measured", "rank 1 predicted", "rank 1 measured"]


def test_what_is_left_out_is_said():
    drawn = svg(GPipe().table(100, 100))
    assert any("64 of 100 ranks" in (text.text or "") for text in parsed(drawn).iter(f"{NAME}text"))
    assert len(drawn) < 3e6


def test_names_are_escaped():
    box = Box(0, 0.0, 1.0, ("other",), ("<&>",), "\x00</title><script>alert('1')</script>")
    shown = Picture(("<rank>",), (box,), 0.0, 1.0, "slot")
    root = parsed(svg(shown))
    assert [box[0] for box in boxes(svg(shown))] == ["</title><script>alert('1')</script>"]
    assert root.find(f".//{NAME}script") is None


@pytest.mark.parametrize("x", [TABLE, SIMULATION, picture(TABLE)], ids=["table", "simulation", "picture"])
def test_notebooks_show_it(x):
    assert x._repr_svg_() == svg(x)._repr_svg_() == str(svg(x))
    assert isinstance(svg(x), Svg)


def test_an_empty_picture_is_one():
    assert boxes(svg(replace(picture(TABLE), boxes=()))) == []
    assert boxes(svg(simulate(OneFOneB().table(1, 1), F=0.0, B=0.0)))


def test_the_unit_stands_free_of_the_first_number():
    words = {text.text: text for text in parsed(svg(TABLE, time=(0.0, 8.0))).iter(f"{NAME}text")}
    first, unit = words["0"], words["slot"]
    assert float(first.get("x")) - LETTER / 2 - float(unit.get("x")) >= GUTTER - 0.1
