import re

import pytest

from funpipe._errors import TransportError
from funpipe.backends.installed import Endpoint, endpoint, install, new_handle, uninstall
from funpipe.runtime.transports import InProcess


def test_a_handle_leads_to_what_was_installed_until_it_is_forgotten():
    handle, end = new_handle(), Endpoint(InProcess(1).endpoint(0), ())
    install(handle, end)
    assert endpoint(handle) is end
    uninstall(handle)
    with pytest.raises(TransportError, match=f"no transport is installed under handle {handle}: call the step only in"):
        endpoint(handle)


def test_forgetting_twice_is_nothing():
    uninstall(new_handle())


def test_handles_are_never_used_twice():
    assert len({new_handle() for _ in range(100)}) == 100


def test_a_handle_without_transport_says_what_to_do():
    remedy = "call the step only in the process that compiled it, while its mesh is open."
    with pytest.raises(TransportError, match=re.escape(remedy)):
        endpoint(new_handle())
