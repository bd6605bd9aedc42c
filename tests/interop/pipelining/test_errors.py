import builtins

import pytest

from funpipe import FunpipeError
from funpipe.interop.pipelining import errors

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and value is not FunpipeError]


@pytest.mark.parametrize("error", CLASSES)
def test_each_is_ours_and_its_text_is_the_users(error):
    assert issubclass(error, FunpipeError) and str(error("text")) == "text"


SPECIAL = (errors.PipeliningMetadataError, errors.Untraceable)


@pytest.mark.parametrize("error", [error for error in CLASSES if error not in SPECIAL])
def test_each_is_of_the_type_in_its_name(error):
    name = error.__name__.removeprefix("Pipe")
    assert issubclass(error, getattr(builtins, name))


@pytest.mark.parametrize("error", SPECIAL)
def test_the_others_are_runtime_errors(error):
    assert issubclass(error, errors.PipeRuntimeError) and issubclass(error, RuntimeError)
