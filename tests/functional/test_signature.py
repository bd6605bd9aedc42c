import functools

import pytest
import torch

from funpipe._errors import LossError, TreeError
from funpipe.functional.loss import Out
from funpipe.functional.signature import call_loss, keywords_of

PARAMS, BATCH, BUFFERS = torch.tensor(2.0), torch.tensor([1.0, 2.0]), {"n": torch.zeros(())}


def plain(params, batch):
    return (params * batch).sum()


def with_buffers(params, batch, *, buffers):
    return Out(plain(params, batch), buffers={"n": buffers["n"] + 1})


def with_key(params, batch, key):
    return plain(params, batch) + key


def with_default(params, batch, *, key=5):
    return plain(params, batch) + key


class Loss:
    def __call__(self, params, batch, *, buffers):
        return with_buffers(params, batch, buffers=buffers)

    def method(self, params, batch, *, key):
        return with_key(params, batch, key)


@functools.wraps(with_buffers)
def wrapped(*args, **kwargs):
    return with_buffers(*args, **kwargs)


@pytest.mark.parametrize(
    ("fn", "keywords"),
    [
        (plain, {}),
        (with_buffers, {"buffers": True}),
        (with_key, {"key": True}),
        (with_default, {"key": False}),
        (Loss(), {"buffers": True}),
        (Loss().method, {"key": True}),
        (wrapped, {"buffers": True}),
        (functools.partial(with_key), {"key": True}),
        (functools.partial(with_key, key=1), {}),
        (functools.partial(functools.partial(with_key, key=1), batch=BATCH), {}),
        (lambda params, batch, **kwargs: params, {}),
        (lambda params, batch, *key: params, {}),
        (max, {}),
    ],
)
def test_keywords_are_those_that_the_function_names(fn, keywords):
    assert keywords_of(fn) == keywords


def test_only_named_keywords_are_passed():
    assert call_loss(plain, PARAMS, BATCH, buffers=BUFFERS, key=1).loss_sum == 6
    assert call_loss(with_key, PARAMS, BATCH, buffers=BUFFERS, key=1).loss_sum == 7
    assert call_loss(with_default, PARAMS, BATCH).loss_sum == 11


@pytest.mark.parametrize("fn", [with_buffers, Loss(), wrapped, functools.partial(with_buffers)])
def test_buffers_go_in_and_come_out(fn):
    out = call_loss(fn, PARAMS, BATCH, buffers=BUFFERS)
    assert (out.loss_sum, out.buffers) == (6, {"n": 1})


def test_what_a_partial_binds_is_not_passed():
    bound = functools.partial(with_key, key=100)
    assert call_loss(bound, PARAMS, BATCH, key=1).loss_sum == 106


@pytest.mark.parametrize(("fn", "keyword"), [(with_buffers, "buffers"), (with_key, "key")])
def test_a_keyword_that_was_not_given(fn, keyword):
    with pytest.raises(
        LossError, match=rf"takes {keyword}, but got none; pass {keyword}=\.\.\. where you pass the params"
    ):
        call_loss(fn, PARAMS, BATCH)


def test_buffers_that_do_not_come_back():
    with pytest.raises(
        LossError, match=r"takes buffers, but does not return them; return fp\.Out\(loss, buffers=new_b"
    ):
        call_loss(lambda params, batch, buffers: params, PARAMS, BATCH, buffers=BUFFERS)


def test_buffers_that_were_not_taken():
    with pytest.raises(LossError, match=r"returns buffers that it was not given; take them as a keyword, `buffers`\."):
        call_loss(lambda params, batch: Out(params, buffers=BUFFERS), PARAMS, BATCH, buffers=BUFFERS)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({}, r"the buffers that the loss function returned: missing 'n'"),
        ({"m": torch.zeros(())}, r"returned: unknown leaf 'm'; the nearest names are 'n'"),
        ({"n": torch.zeros(2)}, r"returned: leaf 'n' is float32\[2\], but float32\[\] was expected; pass a leaf"),
        ({"n": torch.zeros((), dtype=torch.int64)}, r"returned: leaf 'n' is int64\[\], but float32\[\] was expected"),
    ],
)
def test_buffers_that_come_back_different(returned, message):
    with pytest.raises(TreeError, match=message):
        call_loss(lambda params, batch, buffers: Out(params, buffers=returned), PARAMS, BATCH, buffers=BUFFERS)


def test_what_cannot_be_called():
    with pytest.raises(LossError, match=r"the loss function is of type int; pass a function of params and batch\."):
        call_loss(3, PARAMS, BATCH)  # type: ignore[arg-type]


def test_no_loss_is_an_error():
    with pytest.raises(LossError, match=r"the loss has shape \(2,\)"):
        call_loss(lambda params, batch: params * batch, PARAMS, BATCH)
