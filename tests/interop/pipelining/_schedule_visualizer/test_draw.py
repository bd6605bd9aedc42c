"""Drawing with a stand-in for matplotlib, which writes down what it is asked to draw."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from funpipe import FunpipeError
from funpipe.interop.pipelining._schedule_visualizer import (
    action_type_to_color_mapping,
    get_schedule_ops,
    visualize_schedule,
)
from funpipe.interop.pipelining.schedules import _ComputationType


class Axes:
    """Writes down the boxes and their texts; takes any other call."""

    def __init__(self):
        self.boxes, self.texts = [], []

    def barh(self, rank, width, left, **looks):
        self.boxes.append((rank, left, width, looks["color"]))
        return looks["color"]

    def text(self, x, y, text, **_):
        self.texts.append(text)

    def __getattr__(self, name):
        return lambda *_, **__: None


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn, and where it went."""
    axes, went = Axes(), []
    figure = SimpleNamespace(tight_layout=lambda: None, savefig=went.append)
    pyplot = ModuleType("matplotlib.pyplot")
    vars(pyplot).update(
        subplots=lambda **_: (figure, axes), show=lambda: went.append("screen"), close=lambda _: went.append("closed")
    )
    monkeypatch.setitem(sys.modules, "matplotlib", ModuleType("matplotlib"))
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", pyplot)
    return SimpleNamespace(axes=axes, went=went)


def test_every_action_is_a_box_as_wide_as_it_lasts(drawn):
    found = get_schedule_ops("1F1B", 2, 2, add_spacing=True)
    visualize_schedule(found, "picture.png")
    assert drawn.went == ["picture.png", "closed"]
    assert sorted(drawn.axes.texts) == sorted(str(action) for row in found for action in row if action)
    assert [(rank, left, width) for rank, left, width, _ in drawn.axes.boxes][:3] == [(0, 0, 1), (0, 1, 1), (0, 4, 2)]


@pytest.mark.parametrize("name", ["GPipe", "DualPipeV"])
def test_messages_are_drawn_too(drawn, name):
    """torch draws computations alone."""
    visualize_schedule(get_schedule_ops(name, 2, 4, with_comms=True))
    assert drawn.went == ["screen"] and "0SEND_F0" in drawn.axes.texts


def test_no_two_kinds_look_the_same():
    assert set(action_type_to_color_mapping) == set(_ComputationType)
    assert len({(looks.color, looks.text) for looks in action_type_to_color_mapping.values()}) == len(_ComputationType)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "funpipe\[viz\]"') as raised:
        visualize_schedule([])
    assert isinstance(raised.value, FunpipeError)
