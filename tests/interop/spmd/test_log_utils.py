"""Loggers of rank 0 write, those of others do not."""

import logging

import pytest

from funpipe.interop.spmd import config, log_utils
from funpipe.interop.spmd.errors import SpmdAssertionError
from funpipe.interop.spmd.log_utils import get_logger


@pytest.fixture(autouse=True)
def _as_new():
    loggers = [logging.getLogger(name) for name in ("spmd_exp", "graph_opt", "null_logger")]
    yield
    for logger in loggers:
        for handler in list(logger.handlers):
            handler.close()
            logger.removeHandler(handler)


def test_rank_0_writes_to_stdout_and_to_the_file(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "log_file_name", str(tmp_path / "log"))
    get_logger("graph_opt").info("moved")
    assert get_logger("graph_opt") is get_logger("graph_opt")
    assert capsys.readouterr().out == "graph_opt: [INFO] moved\n"
    assert (tmp_path / "log").read_text() == "graph_opt: [INFO] moved\n"


def test_other_ranks_write_nothing(capsys, monkeypatch):
    monkeypatch.setattr(log_utils.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(log_utils.dist, "get_rank", lambda: 1)
    logger = get_logger("graph_opt")
    logger.error("moved")
    assert logger.name == "null_logger" and capsys.readouterr() == ("", "")


def test_an_unknown_logger():
    with pytest.raises(
        SpmdAssertionError, match=r"Unable to find spmd in .*\['spmd_exp', 'graph_opt', 'null_logger'\]; use one"
    ):
        get_logger("spmd")
