import builtins

import pytest

from funpipe import FunpipeError
from funpipe.interop.pipelining import errors

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and value is not FunpipeError]


@pytest.mark.parametrize("error", CLASSES)
def test_each_is_ours_and_its_text_is_the_users(error):
    assert issubclass(error, FunpipeError) and str(error("text")) == "text"


@pytest.mark.parametrize("error", [error for error in CLASSES if error is not errors.PipeliningMetadataError])
def test_each_is_of_the_type_in_its_name(error):
    name = error.__name__.removeprefix("Pipe")
    assert issubclass(error, getattr(builtins, name))


def test_wrong_metadata_is_a_runtime_error():
    assert issubclass(errors.PipeliningMetadataError, RuntimeError)
