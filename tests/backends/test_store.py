"""Texts on disk: whole or not there, and claimed by one process at a time."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import funpipe
from funpipe.backends.store import Store

FILE = Path(funpipe.__file__).parent / "backends" / "store.py"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "made when it is needed")


def test_what_was_put_is_there_and_nothing_else(store):
    assert store.get("a") is None
    store.put("a", "one\ntwo\n")
    assert store.get("a") == "one\ntwo\n" and store.get("b") is None


def test_the_last_text_counts(store):
    store.put("a", "one")
    store.put("a", "two")
    assert store.get("a") == "two"


@pytest.mark.parametrize("text", ["", "\n", "first\n", "ä€\n\n"])
def test_any_text_comes_back(store, text):
    store.put("a", text)
    assert store.get("a") == text


def test_nothing_but_the_text_is_left(store):
    store.put("a", "one")
    assert [path.name for path in store.folder.iterdir()] == ["a.py"]


DAMAGES = {
    "cut off": lambda data: data[: len(data) // 2],
    "without its first line": lambda data: data.partition(b"\n")[2],
    "empty": lambda data: b"",
    "zeros, as a crash of the machine leaves it": lambda data: bytes(len(data)),
    "another text": lambda data: data.replace(b"one", b"two"),
    "no text": lambda data: b"\xff\xfe" + data,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_is_not_whole_is_not_there(store, damage):
    """So that it is written anew: it would be an error in every process from now on."""
    store.put("a", "one and more")
    file = store.folder / "a.py"
    file.write_bytes(damage(file.read_bytes()))
    assert store.get("a") is None
    store.put("a", "new")
    assert store.get("a") == "new"


def test_a_key_is_claimed_once_and_again_when_the_claim_has_ended(store):
    with store.claimed("a") as mine, store.claimed("a") as other, store.claimed("b") as another_key:
        assert (mine, other, another_key) == (True, False, True)
    with store.claimed("a") as mine:
        assert mine


def test_a_claim_ends_with_an_error(store):
    with pytest.raises(KeyboardInterrupt), store.claimed("a"):
        raise KeyboardInterrupt
    with store.claimed("a") as mine:
        assert mine


CLAIM = """
import runpy, sys, pathlib
store = runpy.run_path(sys.argv[1])["Store"](pathlib.Path(sys.argv[2]))
with store.claimed("a") as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


def test_a_claim_ends_with_its_process_however_that_ends(store):
    """Killed in the middle of a compile, it can say nothing any more."""
    command = [sys.executable, "-c", CLAIM, str(FILE), str(store.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "True\n"
        with store.claimed("a") as mine:
            assert not mine
        other.send_signal(signal.SIGKILL)
        other.wait()
        with store.claimed("a") as mine:
            assert mine


def test_where_nothing_can_be_written_nothing_is_kept_and_nothing_fails(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    store = Store(tmp_path / "file" / "funpipe")
    with store.claimed("k") as mine:
        store.put("k", "text")
    assert mine and store.get("k") is None
