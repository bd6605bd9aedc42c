"""The table: what a row says, and rows that are kept."""

from tests.models import table


def _fails() -> None:
    raise ValueError("the second gradient is off")


def test_a_check_holds_or_says_why_not():
    found = table.outcomes({"forward": lambda: None, "names": _fails}, ("forward", "names", "4 stages"))
    assert found == [True, "ValueError: the second gradient is off", None]


def test_rows_are_written_in_the_order_of_the_list_and_found_again(tmp_path):
    page = tmp_path / "models.md"
    page.write_text(f"# Models\n\n{table.HEADING}\n")
    good = [True] * len(table.COLUMNS)
    rows = {"B": table.row("B", good, 1.2), "A": table.row("A", ["no", None, *good[2:]], 2.0)}
    table.write(page, rows, ["A", "B"])
    assert list(table.rows_of(page)) == ["A", "B"]
    assert page.read_text().startswith("# Models\n\n## The list\n\n| model | forward |")
    assert "| A | – |  | ✓ |" in page.read_text()
    table.write(page, table.rows_of(page) | {"C": table.row("C", good, 3.0)}, ["C", "A", "B"])
    assert list(table.rows_of(page)) == ["C", "A", "B"]
