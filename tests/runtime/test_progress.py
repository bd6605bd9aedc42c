"""A compile that takes long says how far it is; a short one says nothing."""

import io
import logging

from funpipe.runtime.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def told(stream, patience=0.0, rank=0):
    progress = Progress(rank, stream, patience)
    for done, name in enumerate(("F0", "F0", "B0")):
        progress(name, done, 3)
    progress.end()
    return stream.getvalue()


def test_a_terminals_line_is_written_over_and_cleared():
    lines = told(Terminal()).split("\r")
    assert lines[1] == "funpipe: compiling F0, 0 of 3 graphs done"
    assert lines[-2].isspace() and lines[-1] == ""


def test_a_file_gets_one_line_for_each_graph():
    assert told(io.StringIO()).splitlines()[-1] == "funpipe: compiling B0, 2 of 3 graphs done"


def test_a_short_compile_says_nothing():
    assert told(Terminal(), patience=60.0) == ""


def test_the_same_graph_is_told_once():
    stream = io.StringIO()
    progress = Progress(0, stream, 0.0)
    for _ in range(5):
        progress("F0", 0, 1)
    assert len(stream.getvalue().splitlines()) == 1


def test_other_ranks_log(caplog):
    with caplog.at_level(logging.INFO, logger="funpipe"):
        assert told(io.StringIO(), rank=1) == ""
    assert "compiling B0, 2 of 3 graphs done" in caplog.text
