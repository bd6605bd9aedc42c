import pytest

from funpipe._errors import FunpipeError
from funpipe.backends import BACKENDS, Request, compile
from funpipe.backends.registry import check_backend
from tests.backends.ranks import example_of
from tests.programs.models import programs_of


def test_an_unknown_backend_is_named_with_those_that_exist():
    with pytest.raises(FunpipeError, match="there is no backend 'jit'; use one of 'interpret', 'regions', 'step'"):
        check_backend("jit")


def test_compiling_for_an_unknown_backend_is_the_same_error():
    programs = programs_of(num_stages=1)
    with pytest.raises(FunpipeError, match="there is no backend 'eager'"):
        compile("eager", programs, Request(0, 1), None, example_of(programs, 0))


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_is_known(name):
    check_backend(name)
