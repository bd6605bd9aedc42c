import pytest

from funpipe._errors import GraphError
from funpipe.functional.objects import collecting, fail, is_collecting, knowing, known, note


def test_what_is_noted_in_a_trace_is_known_there_and_later():
    value = object()
    with collecting() as found:
        assert note("adam", value) == "adam"
        assert known("adam") is value
    with knowing(found):
        assert known("adam") is value


def test_two_objects_of_one_text_have_two_names():
    first, second = object(), object()
    with collecting() as found:
        names = [note("adam", first), note("adam", second), note("adam", first)]
    assert names == ["adam", "adam#1", "adam"]
    assert found == {"adam": first, "adam#1": second}


def test_outside_a_trace_nothing_is_noted():
    assert not is_collecting()
    with pytest.raises(GraphError, match="is noted outside a trace"):
        note("adam", object())


def test_an_unknown_name_is_an_error():
    with pytest.raises(GraphError, match="no object is known as 'adam'"):
        known("adam")


def test_what_an_operator_cannot_raise_is_raised_at_the_end():
    ran = []
    with pytest.raises(ValueError, match="first"), knowing({}):
        fail(ValueError("first"))
        fail(ValueError("second"))
        ran.append("on")
    assert ran == ["on"]


def test_where_nothing_is_open_it_is_raised_at_once():
    with pytest.raises(ValueError, match="now"):
        fail(ValueError("now"))
