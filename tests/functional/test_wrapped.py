from functools import partial

import pytest

from funpipe._errors import LossError
from funpipe.functional.signature import keywords_of
from funpipe.functional.wrapped import with_keywords_of


def outer(params, batch, **keywords):
    return keywords


@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda params, batch: None,
        lambda params, batch, *, buffers: None,
        lambda params, batch, buffers, key=None: None,
        partial(lambda params, batch, *, buffers, key: None, buffers=3),
    ],
)
def test_it_names_what_the_loss_function_names(loss_fn):
    assert keywords_of(with_keywords_of(loss_fn, lambda params, batch, **k: k)) == keywords_of(loss_fn)


def test_it_is_the_function_itself():
    assert with_keywords_of(lambda params, batch: None, outer) is outer


def test_what_is_no_function():
    with pytest.raises(LossError, match="the loss function is of type int"):
        with_keywords_of(3, outer)
