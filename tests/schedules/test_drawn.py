from funpipe.schedules import GPipe, drawn, simulate


def test_shows_what_the_last_drawer_draws(monkeypatch):
    monkeypatch.setattr(drawn, "_drawers", [])
    table = GPipe().table(1, 1)
    drawn.draw_with(lambda x: "first")
    drawn.draw_with(lambda x: f"<svg>{x!r}</svg>")
    assert table._repr_svg_() == f"<svg>{table!r}</svg>"
    assert simulate(table)._repr_svg_().startswith("<svg>")


def test_shows_nothing_where_nobody_draws(monkeypatch):
    monkeypatch.setattr(drawn, "_drawers", [])
    assert GPipe().table(1, 1)._repr_svg_() is None
