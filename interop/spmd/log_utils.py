"""Loggers: those of rank 0 write to stdout, those of other ranks to nowhere."""

import logging
import sys

import torch.distributed as dist

from funpipe.interop.spmd import config
from funpipe.interop.spmd.errors import SpmdAssertionError

_LOGGERS = ("spmd_exp", "graph_opt", "null_logger")


def get_logger(log_type: str) -> logging.Logger:
    """The logger of a kind of messages.

    Args:
        log_type: `"spmd_exp"`, `"graph_opt"` or `"null_logger"`.

    Returns:
        The logger; of ranks other than 0 one that writes nothing.

    Raises:
        SpmdAssertionError: there is no such logger.
    """
    if log_type not in _LOGGERS:
        raise SpmdAssertionError(
            f"Unable to find {log_type} in the available list of loggers {list(_LOGGERS)}; use one of these."
        )
    if dist.is_initialized() and dist.get_rank() != 0:
        log_type = "null_logger"
    logger = logging.getLogger(log_type)
    if not logger.handlers:
        _set_up(logger)
    return logger


def _set_up(logger: logging.Logger) -> None:
    logger.propagate = False
    if logger.name == "null_logger":
        logger.addHandler(logging.NullHandler())
        return
    logger.setLevel(config.log_level)
    logger.addHandler(_formatted(logging.StreamHandler(sys.stdout)))
    if config.log_file_name is not None:
        logger.addHandler(_formatted(logging.FileHandler(config.log_file_name)))


def _formatted(handler: logging.Handler) -> logging.Handler:
    handler.setFormatter(logging.Formatter("%(name)s: [%(levelname)s] %(message)s"))
    return handler
