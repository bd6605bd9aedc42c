"""Freed memory stays with the process: measured in one of its own, since it is a setting of the process."""

import resource
import sys

import pytest
import torch

import funpipe as fp
from funpipe.backends.kept_memory import keep_freed_memory


def faults() -> int:
    """The page faults of taking and freeing ten megabytes, some times over."""
    counts = []
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        tensors = [torch.ones(2**18) for _ in range(10)]
        del tensors
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return sum(counts[2:])


def before_and_after() -> tuple[int, int]:
    """The faults of a process that gives memory back, and when it keeps it."""
    given_back = faults()
    keep_freed_memory()
    return given_back, faults()


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_memory_that_was_freed_is_not_faulted_in_again():
    given_back, kept = fp.launch(before_and_after, 1)[0]
    assert 10 * kept < given_back


def test_what_the_user_has_set_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert not keep_freed_memory()
