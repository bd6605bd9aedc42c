import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from funpipe import FunpipeError
from funpipe.interop.pipelining.schedules import csv_files
from funpipe.interop.pipelining.schedules.csv_files import read_csv, write_csv
from tests.interop.pipelining.schedules.grids import any_row
from tests.interop.pipelining.schedules.made import rows

slow_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
filled = any_row.map(lambda row: [*row, *rows("0F0")[0]])


@slow_files
@given(st.lists(filled, min_size=1, max_size=4))
def test_what_is_written_is_read(tmp_path, found):
    write_csv(dict(enumerate(found)), tmp_path / "rows.csv")
    assert read_csv(tmp_path / "rows.csv") == dict(enumerate(found))


@slow_files
@given(st.binary(max_size=60) | st.text("0123456789FBIW,;()\n\r\"' ", max_size=60).map(str.encode))
def test_any_file_is_read_or_refused(tmp_path, content):
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    try:
        found = read_csv(path)
    except (ValueError, RuntimeError) as error:
        assert isinstance(error, FunpipeError)
    else:
        assert sum(map(len, found.values())) <= len(content) + 1


def test_a_cell_that_is_no_action_is_named(tmp_path):
    (tmp_path / "rows.csv").write_text("0F0,0B0\n1F0,1X0\n")
    with pytest.raises(RuntimeError, match=r"Invalid action string: 1X0.*row 2, column 2"):
        read_csv(tmp_path / "rows.csv")


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a file"):
        read_csv(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is not a file"):
        read_csv(tmp_path / "pipe")


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "MOST_BYTES", 3)
    (tmp_path / "rows.csv").write_text("0F0,0B0\n")
    with pytest.raises(ValueError, match="has 8 bytes"):
        read_csv(tmp_path / "rows.csv")


def test_a_byte_order_mark_and_empty_lines_at_the_end_do_not_count(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf0F0,,0B0\r\n\r\n")
    assert read_csv(tmp_path / "rows.csv") == rows("0F0 . 0B0")
