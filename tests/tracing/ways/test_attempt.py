"""A way that was tried, as a line."""

from funpipe.tracing.ways import Attempt


def test_a_way_that_works_is_told_with_its_module():
    assert Attempt("modules", "layers.0").as_text() == "modules of layers.0: works"
    assert Attempt("functional").as_text() == "functional: works"


def test_of_a_long_text_the_line_has_the_beginning_and_the_attempt_all():
    attempt = Attempt("export", "", "Unsupported: " + "see there " * 100)
    line = attempt.as_text()
    assert line.startswith("export of the model: Unsupported: see there") and line.endswith(" …")
    assert len(line) < 450 < len(attempt.why or "")
