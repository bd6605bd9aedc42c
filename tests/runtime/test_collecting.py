"""The collector is off for a while, and then as it was."""

import gc

import pytest

from funpipe.runtime.collecting import no_collecting


def test_it_is_on_again_after_an_error():
    with pytest.raises(KeyError), no_collecting():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()


def test_it_stays_off_for_someone_who_turned_it_off():
    gc.disable()
    try:
        with no_collecting():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
