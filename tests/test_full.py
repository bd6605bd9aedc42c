"""The program that writes the page of every combination: its rows, and that it can go on where it was broken off."""

import pytest

from tests import full
from tests.full import CASES, FAST, SCHEDULES, Outcome, add, case_of, head, main, row, rows_of, run

LOSSES = [5.0] * full.STEPS
OUTCOME = Outcome(LOSSES, "371a397b", 1.25, 0.004)


def test_every_schedule_and_backend_is_a_case_on_one_and_two_ranks():
    assert len(CASES) == len(set(CASES)) == 2 * (3 * len(SCHEDULES) + len(FAST))


def test_a_row_names_its_case():
    for case in CASES:
        assert case_of(row(case, OUTCOME, LOSSES)) == case


def test_rows_are_in_the_order_of_the_cases_whenever_they_came(tmp_path):
    page, above = tmp_path / "full.md", head(LOSSES)
    for case in (CASES[7], CASES[2], CASES[7]):
        add(page, above, row(case, OUTCOME, LOSSES))
    assert list(rows_of(page, above)) == [CASES[2], CASES[7]]
    assert page.read_text().count("| 371a") == 0 and page.read_text().endswith("| 1.2 | 4.0 |\n")


def test_rows_of_another_experiment_are_not_kept(tmp_path):
    page = tmp_path / "full.md"
    add(page, head([4.0]), row(CASES[0], OUTCOME, LOSSES))
    assert rows_of(page, head(LOSSES)) == {} and rows_of(tmp_path / "none", head(LOSSES)) == {}


def test_one_that_was_broken_off_goes_on_where_it_was(tmp_path, monkeypatch):
    page, ran = tmp_path / "full.md", []

    def played(*case):
        ran.append(case[:3])
        if len(ran) == 2:
            raise KeyboardInterrupt
        return OUTCOME

    monkeypatch.setattr(full, "eager", lambda: LOSSES)
    monkeypatch.setattr(full, "run", played)
    monkeypatch.setattr("funpipe.launch", lambda *ignored: None)
    with pytest.raises(KeyboardInterrupt):
        main(["--page", str(page), "zbv"])
    main(["--page", str(page), "--resume", "zbv"])
    assert ran == [("zbv", "interpret", "exact"), *(("zbv", b, "exact") for b in ("regions", "regions", "step"))]
    assert len(rows_of(page, head(LOSSES))) == 3


def test_a_name_that_is_no_schedule(capsys):
    with pytest.raises(SystemExit):
        main(["zbw"])
    assert "no schedule zbw; there are gpipe, 1f1b, " in capsys.readouterr().err


def test_the_model_has_as_many_stages_as_a_schedule_asks_for():
    """Four, of two blocks."""
    outcome = run("zbv", "interpret", "exact", None, steps=1)
    assert len(outcome.losses) == 1 and outcome.losses[0] > 0
