import pytest
from torch.distributed.pipelining import schedules as theirs

from funpipe import FunpipeError
from funpipe.interop.pipelining import schedules as ours
from funpipe.interop.pipelining.schedules import _ComputationType, _requires_reduce_grad


def test_the_kinds_and_their_texts_are_those_of_torch():
    assert {k.name: k.value for k in _ComputationType} == {k.name: k.value for k in theirs._ComputationType}


@pytest.mark.parametrize("name", ["F", "I", "W", "B", *_ComputationType.__members__])
def test_each_goes_by_its_names(name):
    assert getattr(ours, name).value == getattr(theirs, name).value


@pytest.mark.parametrize("kind", _ComputationType)
def test_each_is_read_from_its_text_and_prints_as_its_name(kind):
    assert _ComputationType.from_str(kind.value) is kind
    assert str(kind) == f"{kind}" == str(theirs._ComputationType(kind.value))


@pytest.mark.parametrize("text", ["x", "f", "FORWARD", "F0", "", "OVERLAP_F_Bx"])
def test_nothing_else_is_read(text):
    with pytest.raises(RuntimeError, match=f"Invalid computation type {text}") as raised:
        _ComputationType.from_str(text)
    assert isinstance(raised.value, FunpipeError)


@pytest.mark.parametrize("kind", _ComputationType)
def test_what_adds_to_gradients_of_weights_is_what_torch_says(kind):
    assert _requires_reduce_grad(kind) == theirs._requires_reduce_grad(theirs._ComputationType(kind.value))
